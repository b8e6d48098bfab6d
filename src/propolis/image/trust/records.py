"""Signatures that were fetched, kept so that an image can be verified again without the network.

`<blobs>/signatures/<sha256 of REPOSITORY@DIGEST>.json`, whole or not there. Nothing in it is believed: whoever reads it
verifies it again.
"""

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from propolis.errors import DiskError
from propolis.host import system
from propolis.host.files import write_atomically
from propolis.image import digest as digests
from propolis.image.trust.signature import MAX_PAYLOAD, MAX_SIGNATURES, Signature

_MAX_RECORD = 4 * MAX_SIGNATURES * MAX_PAYLOAD


class SignatureRecords:
    """The records below `directory`, which need not exist yet. For any number of threads and processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, place: str, digest: str) -> tuple[Signature, ...]:
        """What is kept for the image `digest` in the repository `place`; a damaged record counts as none.

        Raises:
            DiskError: the host does not let it be read.
        """
        path = self._path(place, digest)
        try:
            with os.fdopen(system.open_published(path), "rb") as file:
                document = json.loads(file.read(_MAX_RECORD))
            return tuple(map(_signature, document["signatures"]))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise DiskError(f"cannot read {path}: {error.strerror}", hint="check its owner and permissions") from error
        except (ValueError, RecursionError, KeyError, TypeError):
            return ()

    def keep(self, place: str, digest: str, signatures: Sequence[Signature]) -> None:
        """From now on these are kept.

        Raises:
            StorageFull, DiskError: the directory cannot be written to.
        """
        listed = [
            {"payload": _text(item.payload), "signature": _text(item.signature), "bundle": item.is_bundle}
            for item in signatures
        ]
        document = {"place": place, "digest": digest, "signatures": listed}
        write_atomically(self._path(place, digest), json.dumps(document).encode())

    def _path(self, place: str, digest: str) -> Path:
        return self._directory / f"{digests.of(f'{place}@{digest}'.encode()).partition(':')[2]}.json"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _signature(found: Any) -> Signature:
    payload, signature = (base64.b64decode(found[name]) for name in ("payload", "signature"))
    return Signature(payload=payload, signature=signature, is_bundle=found["bundle"] is True)
