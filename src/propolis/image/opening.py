"""From what the user wrote to an `Image`: the entry to this room.

Picks the source that fits the reference's transport, or what lies at a bare path.
"""

import contextlib
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from propolis.errors import ImageError, ImageInvalid
from propolis.image import reference as references
from propolis.image.directory import MANIFEST, VERSION, DirectorySource
from propolis.image.files import DirectoryFiles, Files, has_file, mode_of, open_regular
from propolis.image.layout import LayoutSource
from propolis.image.manifest import Platform
from propolis.image.platforms import platform_of
from propolis.image.reference import Reference, Transport
from propolis.image.source import Found, Image, ImageSource
from propolis.image.store import BlobStore
from propolis.image.trust.files import find_policy
from propolis.progress import Reporter
from propolis.spec import Architecture, PullPolicy

if TYPE_CHECKING:
    from propolis.image.remembered import RememberedArchive

_OF_IMAGES = re.compile(
    r"(\./)?(blobs(/.*)?|oci-layout|index\.json|manifest\.json|repositories|[0-9a-f]{64}(/.*|\.tar|\.json)?)"
)
"""What the archives of images begin with, and hardly any other."""


def open_image(
    reference: str,
    wanted: Platform | Architecture,
    store: BlobStore,
    pull: PullPolicy = PullPolicy.MISSING,
    *,
    signature_policy: Path | None = None,
    reporter: Reporter | None = None,
) -> Image:
    """The image that `reference` names, for the platform `wanted`; to be closed when its layers have been read.

    No layer is read. `pull` is for registries; an architecture is any variant of linux on it.

    What a signature policy (by default this host's, if it has one) does not allow is not opened.

    Raises:
        InvalidArgument: the reference is no reference, or fits several images.
        ImageNotFound: nothing at that place, or nothing by that name.
        PlatformMismatch: it is not for this platform; the message says what for.
        ImageInvalid: the documents break the specification or their digests.
        SignatureRejected: the signature policy does not allow it.
        RegistryError: a registry cannot be reached, refuses, or is broken.
        DaemonError: the same of a container engine.
        StorageFull, DiskError: the store cannot be written to.
    """
    platform = platform_of(wanted) if isinstance(wanted, Architecture) else wanted
    policy = find_policy(signature_policy)
    opening = _Opening(store, reporter)
    with contextlib.ExitStack() as clean_up:
        clean_up.callback(opening.close)
        parsed = references.parse(reference, opening.probe)
        source = opening.source(parsed, pull)
        clean_up.callback(source.close)
        try:
            found = source.find(parsed.name, parsed.digest, platform)
        except ImageError as error:
            if parsed.transport is Transport.DOCKER:
                _mention_daemon(parsed, error)
            raise
        if policy is not None:
            from propolis.image.trust.verification import check

            check(policy, parsed, found, source)
        if found.remember is not None:
            found.remember()
        opening.remember(found)
        clean_up.pop_all()
    return Image(
        reference=str(parsed),
        digest=found.digest,
        config=found.config,
        layers=found.layers,
        source=source,
    )


def holds_image(path: Path) -> bool:
    """Whether the directory or file at `path` is an image, as far as can be told without unpacking all of it.

    Raises:
        ImageError: it cannot be read, or is no tar.
    """
    if stat.S_ISDIR(mode_of(path)):
        return has_file(path, "oci-layout") or _is_directory_image(path)
    from propolis.image.compression import MAGIC_LENGTH, Compression, sniff
    from propolis.image.spool import pieces_of, uncompressed
    from propolis.image.tar import TarReader
    from propolis.image.tar_files import TarFiles

    file, _ = open_regular(path, str(path))
    with file:
        head = file.read(MAGIC_LENGTH)
    if sniff(head) is Compression.NONE:
        return _kind(TarFiles(path)) is not None
    with contextlib.closing(pieces_of(path)) as pieces:
        content = uncompressed(pieces, str(path))
        reader = TarReader(lambda: next(content, memoryview(b"")), str(path))
        first = reader.next()
        while first is not None and not first.name.strip(b"./"):  # the directory that was packed
            first = reader.next()
    return first is not None and _OF_IMAGES.fullmatch(first.name.decode("utf-8", "replace")) is not None


class _Opening:
    """One reference on its way to a source: an archive that had to be looked into is not read twice."""

    def __init__(self, store: BlobStore, reporter: Reporter | None) -> None:
        self._store, self._reporter = store, reporter
        self._archives: dict[Path, Files] = {}
        self._remembered: dict[Path, RememberedArchive] = {}
        """Those of them that are."""

    def close(self) -> None:
        for archive in self._archives.values():
            archive.close()

    def probe(self, path: Path) -> Transport | None:
        """See `reference.Probe`; `-` is standard input."""
        if str(path) != "-":
            mode = mode_of(path)
            if stat.S_ISDIR(mode):
                return Transport.DIRECTORY if _is_directory_image(path) else Transport.OCI
            if not stat.S_ISREG(mode):
                return None
            if not self._begins_like_image(path):
                raise _no_image(str(path))
        found = _kind(self._archive(path))
        if found is None:
            raise _no_image(self._archive(path).where)
        return found

    def source(self, reference: Reference, pull: PullPolicy) -> ImageSource:
        """Where the image is to be found."""
        if reference.transport is Transport.DOCKER:
            from propolis.image.registry.source import RegistrySource

            return RegistrySource(self._store, pull)
        if reference.transport is Transport.DOCKER_DAEMON:
            from propolis.image.daemon.source import DaemonSource

            return DaemonSource(self._store, self._reporter)
        assert reference.path is not None
        if reference.transport is Transport.OCI:
            return LayoutSource(DirectoryFiles(reference.path), self._store)
        if reference.transport is Transport.DIRECTORY:
            return DirectorySource(DirectoryFiles(reference.path), self._store)
        archive = self._archive(reference.path)
        if reference.transport is Transport.OCI_ARCHIVE:
            return LayoutSource(archive, self._store)
        from propolis.image.docker_archive import DockerArchiveSource

        return DockerArchiveSource(archive)

    def remember(self, found: Found) -> None:
        """Keep what archives were asked for, which led to the image that was found."""
        for archive in self._remembered.values():
            archive.remember(found.digest)

    def _archive(self, path: Path) -> Files:
        if path not in self._archives:
            from propolis.image.remembered import RememberedArchive, open_archive

            archive = self._archives[path] = open_archive(path, self._store, self._reporter)
            if isinstance(archive, RememberedArchive):
                self._remembered[path] = archive
        return self._archives[path]

    def _begins_like_image(self, path: Path) -> bool:
        self._archive(path)
        archive = self._remembered.get(path)
        return holds_image(path) if archive is None else archive.begins_like_image(holds_image)


def _kind(files: Files) -> Transport | None:
    if "index.json" in files and "oci-layout" in files:
        return Transport.OCI_ARCHIVE
    return Transport.DOCKER_ARCHIVE if "manifest.json" in files else None


def _is_directory_image(path: Path) -> bool:
    return has_file(path, MANIFEST) and has_file(path, VERSION) and not has_file(path, "oci-layout")


def _no_image(what: str) -> ImageInvalid:
    return ImageInvalid(
        f"{what} is a tar, but neither of an OCI image layout nor from docker save",
        hint="a root file system is run with --rootfs",
    )


def _mention_daemon(reference: Reference, error: ImageError) -> None:
    """What was built on this host is with its container engine: say so if there is one. It is not asked."""
    from propolis.image.daemon.address import has_socket

    if not reference.digest and has_socket():
        hint = f"if it was built on this host, name it docker-daemon:{reference.name}"
        error.hint = "; ".join(text for text in (error.hint, hint) if text)
