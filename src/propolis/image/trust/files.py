"""Which policy applies on this host, and the file it is in. Without one, nothing is asked of images.

Imported at every start, so it imports next to nothing.
"""

import os
from pathlib import Path

from propolis.errors import InvalidArgument
from propolis.host.directories import configuration_directory

VARIABLE = "PROPOLIS_SIGNATURE_POLICY"
_NAME = "policy.json"
_HINT = "name a file as containers-policy.json(5) describes it"


def find_policy(given: Path | None) -> Path | None:
    """The policy's file: the one `given`, else $PROPOLIS_SIGNATURE_POLICY, else `policy.json` of our configuration.

    Raises:
        InvalidArgument: the one that was named is not there.
    """
    named = given or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if named is None:
        own = configuration_directory() / _NAME
        return own if os.path.lexists(own) else None  # a link to nothing is no leave to run everything
    if not named.exists():
        raise InvalidArgument(f"there is no signature policy {named}", hint=_HINT)
    return named


def read_policy(file: Path, limit: int) -> bytes:
    """The file's content, up to one byte more than `limit`.

    Raises:
        InvalidArgument: it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            return opened.read(limit + 1)
    except OSError as error:
        raise InvalidArgument(f"cannot read the signature policy {file}: {error.strerror}", hint=_HINT) from error
