"""From what the user wrote to an `Image`: the entry to this room.

Picks the source that fits the reference's transport, or what lies at a bare path.
"""

from pathlib import Path

from propolis.errors import ImageInvalid
from propolis.image import reference as references
from propolis.image.files import DirectoryFiles
from propolis.image.layout import LayoutSource
from propolis.image.reference import Reference, Transport
from propolis.image.source import Image, ImageSource
from propolis.image.store import BlobStore
from propolis.image.trust.files import find_policy
from propolis.spec import Architecture, PullPolicy


def open_image(
    reference: str,
    architecture: Architecture,
    store: BlobStore,
    pull: PullPolicy = PullPolicy.MISSING,
    signature_policy: Path | None = None,
) -> Image:
    """The image that `reference` names, for linux on `architecture`. No layer is read. `pull` is for registries.

    What a signature policy (by default this host's, if it has one) does not allow is not opened.

    Raises:
        InvalidArgument: the reference is no reference, or fits several images.
        ImageNotFound: nothing at that place, or nothing by that name.
        PlatformMismatch: it is not for this architecture; the message says what for.
        ImageInvalid: the documents break the specification or their digests.
        SignatureRejected: the signature policy does not allow it.
        RegistryError: a registry cannot be reached, refuses, or is broken.
        StorageFull, DiskError: the store cannot be written to.
    """
    parsed = references.parse(reference, probe)
    policy = find_policy(signature_policy)
    source = _source(parsed, store, pull)
    found = source.find(parsed.name, parsed.digest, architecture)
    if policy is not None:
        from propolis.image.trust.verification import check

        check(policy, parsed, found, source)
    if found.remember is not None:
        found.remember()
    return Image(
        reference=str(parsed),
        digest=found.digest,
        architecture=architecture,
        config=found.config,
        layers=found.layers,
        source=source,
    )


def probe(path: Path) -> Transport | None:
    """How an image lies at `path`; None when nothing is there.

    Raises:
        ImageInvalid: what is there is no image.
    """
    if path.is_dir():
        return Transport.OCI
    if not path.is_file():
        return None
    from propolis.image.tar_files import TarFiles

    files = TarFiles(path)
    if "index.json" in files and "oci-layout" in files:
        return Transport.OCI_ARCHIVE
    if "manifest.json" in files:
        return Transport.DOCKER_ARCHIVE
    raise ImageInvalid(
        f"{path} is a tar, but neither of an OCI image layout nor from docker save",
        hint="make an image of it first, for example with umoci",
    )


def _source(reference: Reference, store: BlobStore, pull: PullPolicy) -> ImageSource:
    if reference.path is None:
        from propolis.image.registry.source import RegistrySource

        return RegistrySource(store, pull)
    if reference.transport is Transport.OCI:
        return LayoutSource(DirectoryFiles(reference.path), store)
    from propolis.image.tar_files import TarFiles

    files = TarFiles(reference.path)
    if reference.transport is Transport.OCI_ARCHIVE:
        return LayoutSource(files, store)
    from propolis.image.docker_archive import DockerArchiveSource

    return DockerArchiveSource(files)
