"""The images of container engines that this host can reach.

An engine gives an image as one archive of all its layers, which takes long. So what an archive showed is remembered by
the image's ID: documents in the store, and a record that leads to them. As long as every layer's disk is there as well,
nothing is exported again.
"""

import json
import re
import threading
from collections.abc import Sequence
from typing import BinaryIO

from propolis.errors import DaemonError, DigestMismatch, ImageError, ImageInvalid, ImageNotFound
from propolis.image import digest as digests
from propolis.image.daemon.address import addresses
from propolis.image.daemon.engine import Engine
from propolis.image.docker_archive import DockerArchiveSource
from propolis.image.document import MAX_DOCUMENT, Fields
from propolis.image.files import read_all
from propolis.image.layout import LayoutSource
from propolis.image.manifest import (
    OCI_CONFIG,
    OCI_MANIFEST,
    Layer,
    Platform,
    pair_layers,
    parse_config,
    parse_index,
    parse_manifest,
)
from propolis.image.platforms import fits
from propolis.image.registry.name import is_qualified
from propolis.image.selection import mismatch
from propolis.image.source import Found, ImageSource
from propolis.image.spool import spool
from propolis.image.store import BlobStore
from propolis.image.tags import TagRecords
from propolis.image.tar_files import TarFiles
from propolis.progress import Reporter

_BARE_ID = re.compile(r"[0-9a-f]{64}")
_LOCALHOST = "localhost/"
"""What podman puts before the names of images that it built."""


class DaemonSource:
    """One image of the first engine that has it. Documents are kept in `store`, an archive only until it is closed."""

    def __init__(
        self, store: BlobStore, reporter: Reporter | None = None, engines: Sequence[Engine] | None = None
    ) -> None:
        """Nothing is connected yet; without `engines`, those of `addresses`."""
        self._store = store
        self._records = TagRecords(store.daemons)
        self._reporter = reporter
        self._engines = engines
        self._engine: Engine | None = None
        self._id = ""
        self._wanted: Platform | None = None
        self._archive: ImageSource | None = None
        self._lock = threading.Lock()

    def find(self, name: str, digest: str, wanted: Platform) -> Found:
        """See `ImageSource.find`; a digest is an image's ID, or one that the engine knows it by.

        Raises besides:
            DaemonError: no engine can be asked, or it breaks.
            InvalidArgument: the environment names none that can be.
        """
        self._engine, told = self._inspected(_spellings(name, digest))
        self._id, platform = _identity(told, self._engine)
        self._wanted = wanted
        shown = name or digests.short(digest)
        if not fits(platform, wanted):
            raise mismatch([str(platform)], wanted, f"{shown} at {self._engine.address}")
        return self._kept(wanted) or self._exported(wanted)

    def open_layer(self, layer: Layer) -> BinaryIO:
        """See `ImageSource.open_layer`; the first one has the engine export the image."""
        assert self._wanted is not None
        with self._lock:
            if self._archive is None:
                self._exported(self._wanted)
            assert self._archive is not None
        return self._archive.open_layer(layer)

    def close(self) -> None:
        """See `ImageSource.close`."""
        with self._lock:
            if self._archive is not None:
                self._archive.close()

    def _inspected(self, spellings: Sequence[str]) -> tuple[Engine, bytes]:
        engines = self._engines if self._engines is not None else [Engine(address) for address in addresses()]
        if not engines:
            raise DaemonError(
                "no container engine listens on this host", hint="start docker or podman, or set DOCKER_HOST"
            )
        faults: list[ImageError] = []
        for engine in engines:
            for spelling in spellings:
                try:
                    return engine, engine.inspect(spelling)
                except ImageNotFound as error:
                    faults.append(error)
                except DaemonError as error:
                    faults.append(error)
                    break
        first = next((fault for fault in faults if isinstance(fault, DaemonError)), faults[0])
        if first is not faults[0] or len(engines) > 1:
            others = "; ".join(dict.fromkeys(str(fault) for fault in faults if fault is not first))
            first.hint = "; ".join(text for text in (first.hint, others) if text)
        raise first

    def _kept(self, wanted: Platform) -> Found | None:
        """The image as an earlier export had it; None where any of its documents is not here."""
        digest = self._records.digest(self._record(wanted))
        data = self._store.read(digest, MAX_DOCUMENT) if digest else None
        if data is None:
            return None
        what = f"what is known of image {digests.short(self._id)}"
        manifest = parse_manifest(data, what)
        document = self._store.read(manifest.config.digest, MAX_DOCUMENT)
        if document is None:
            return None
        config = parse_config(document, what)
        return Found(digest=self._id, config=config, layers=pair_layers(manifest, config, what))

    def _record(self, wanted: Platform) -> str:
        return f"{self._id} {wanted}"

    def _exported(self, wanted: Platform) -> Found:
        assert self._engine is not None
        engine, where = self._engine, f"the image that {self._engine.address} sent"
        copy = spool(engine.export(self._id), self._store.spool, where, self._reporter, limit=engine.bounds.size)
        try:
            archive = TarFiles(where, copy)
            if self._is_layout(archive):
                layout = LayoutSource(archive, self._store)
                found = layout.find("", self._id, wanted)
                self._archive = layout
                self._records.keep(self._record(wanted), found.digest)
            elif "manifest.json" not in archive:
                raise ImageInvalid(f"{where} is a tar without an image in it", hint="see what listens there")
            else:
                saved = DockerArchiveSource(archive)
                found = self._saved(saved, wanted)
                self._archive = saved
        except BaseException:
            copy.close()
            raise
        return Found(digest=self._id, config=found.config, layers=found.layers)

    def _is_layout(self, archive: TarFiles) -> bool:
        """Whether the ID is that of a manifest or index, as where containerd keeps the images."""
        if "index.json" not in archive or "oci-layout" not in archive:
            return False
        index = parse_index(read_all(archive, "index.json", MAX_DOCUMENT), f"index.json in {archive.where}")
        return any(item.digest == self._id for item in index)

    def _saved(self, saved: DockerArchiveSource, wanted: Platform) -> Found:
        """The image of a docker-save archive, whose ID is its config's digest."""
        try:
            found = saved.find("", self._id, wanted)
        except ImageNotFound as error:
            raise DigestMismatch(
                f"{error}, which it calls {digests.short(self._id)}", hint="see the log of the container engine"
            ) from error
        if all(layer.digest for layer in found.layers):
            manifest = _manifest(saved.config_document, found.layers)
            for data in (saved.config_document, manifest):
                self._store.add(digests.of(data), len(data), (data,))
            self._records.keep(self._record(wanted), digests.of(manifest))
        return found


def _spellings(name: str, digest: str) -> list[str]:
    """What to ask an engine for: podman has its own images under localhost, and knows short names as docker's alone."""
    if digest:
        # the ID, or else a digest by which a registry knew it; a tag would contradict that
        repository = name if ":" not in name.rpartition("/")[2] else name.rpartition(":")[0]
        return [digest, *([f"{repository}@{digest}"] if name else [])]
    tagged = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
    return [tagged] if is_qualified(name) else [tagged, _LOCALHOST + tagged]


def _identity(data: bytes, engine: Engine) -> tuple[str, Platform]:
    what = f"what {engine.address} tells of the image"
    told = Fields.parse(data, what)
    identity = told.text("Id")
    if _BARE_ID.fullmatch(identity):
        identity = f"sha256:{identity}"
    if not digests.is_digest(identity):
        raise ImageInvalid(f"{told.at('Id')} is {identity[:80]!r}, which is no digest")
    platform = Platform(os=told.text("Os"), architecture=told.text("Architecture"), variant=told.text("Variant", ""))
    return identity, platform


def _manifest(config: bytes, layers: Sequence[Layer]) -> bytes:
    """A manifest for an image that came without one."""
    described = [{"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size} for layer in layers]
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": digests.of(config), "size": len(config)},
        "layers": described,
    }
    return json.dumps(document).encode()
