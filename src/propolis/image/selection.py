"""Which of several manifests is meant: by platform, descending through nested indexes.

No I/O of its own: documents come from the caller's `read`, which verifies digest and size.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from propolis.errors import ImageInvalid, PlatformMismatch
from propolis.image.digest import short
from propolis.image.manifest import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Config,
    Descriptor,
    Manifest,
    Platform,
    parse_config,
    parse_index,
    parse_manifest,
)
from propolis.spec import Architecture

MAX_NESTING = 4
"""Indexes inside indexes."""
_MAX_DOCUMENTS = 64
"""Documents read in search of one image."""

_ARCHITECTURES = {
    "amd64": Architecture.X86_64,
    "x86_64": Architecture.X86_64,
    "x86-64": Architecture.X86_64,
    "arm64": Architecture.AARCH64,
    "aarch64": Architecture.AARCH64,
}
_GO_NAMES = {Architecture.X86_64: "amd64", Architecture.AARCH64: "arm64"}
_BASELINE = ("", "v1", "v8")
"""Variants that every processor of the architecture runs."""

Read = Callable[[Descriptor], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """The image that was meant."""

    descriptor: Descriptor
    manifest: Manifest
    config: Config
    indexes: tuple[str, ...] = ()
    """Digests of the indexes that led to it, outermost first."""


def select(candidates: Iterable[Descriptor], architecture: Architecture, read: Read, what: str) -> Selected:
    """Find the image for linux on `architecture` among `candidates` and what they lead to.

    The least demanding variant wins. A candidate that does not tell its platform is judged by its config.

    Raises:
        PlatformMismatch: none fits; the message lists what is there.
        ImageInvalid: a document breaks the specification, indexes are nested too deeply or contain themselves.
    """
    search = _Search(architecture, read)
    found = search.descend(candidates, ())
    if found is None:
        raise mismatch(search.others, architecture, what)
    return found


def mismatch(present: Iterable[str], architecture: Architecture, what: str) -> PlatformMismatch:
    """The error that says which platforms are there instead of the wanted one."""
    listed = ", ".join(sorted(set(present))[:12]) or "no platform at all"
    wanted = f"linux/{_GO_NAMES[architecture]}"
    return PlatformMismatch(
        f"{what} is for {listed}, not for {wanted}",
        hint=f"get the image for {wanted}, for example with skopeo copy --override-arch {_GO_NAMES[architecture]} ...",
    )


def fits(platform: Platform, architecture: Architecture) -> bool:
    """Whether an image for `platform` can run in a guest of `architecture`."""
    return platform.os == "linux" and _ARCHITECTURES.get(platform.architecture) is architecture


@dataclass(slots=True)
class _Search:
    architecture: Architecture
    read: Read
    others: list[str] = field(default_factory=list)
    documents: int = 0

    def descend(self, candidates: Iterable[Descriptor], ancestors: tuple[str, ...]) -> Selected | None:
        for descriptor in self._ranked(candidates):
            if descriptor.digest in ancestors:
                raise ImageInvalid(f"index {short(descriptor.digest)} contains itself")
            if descriptor.media_type in INDEX_TYPES:
                if len(ancestors) >= MAX_NESTING:
                    raise ImageInvalid(f"indexes are nested more than {MAX_NESTING} deep")
                inner = parse_index(self._document(descriptor), f"index {short(descriptor.digest)}")
                found = self.descend(inner, (*ancestors, descriptor.digest))
            else:
                found = self._image(descriptor, ancestors)
            if found is not None:
                return found
        return None

    def _ranked(self, candidates: Iterable[Descriptor]) -> list[Descriptor]:
        """Those that may fit, least demanding variant first, those of unknown platform last."""
        ranked: list[tuple[tuple[int, str], Descriptor]] = []
        for descriptor in candidates:
            platform = descriptor.platform
            if platform is None:
                ranked.append(((2, ""), descriptor))
            elif fits(platform, self.architecture):
                demanding = platform.variant not in _BASELINE
                ranked.append(((int(demanding), platform.variant if demanding else ""), descriptor))
            elif platform.os != "unknown":  # buildkit's attestations are for unknown/unknown
                self.others.append(str(platform))
        return [descriptor for _, descriptor in sorted(ranked, key=lambda item: item[0])]

    def _image(self, descriptor: Descriptor, ancestors: tuple[str, ...]) -> Selected | None:
        what = f"manifest {short(descriptor.digest)}"
        if descriptor.media_type not in MANIFEST_TYPES:
            raise ImageInvalid(f"{what} is of type {descriptor.media_type[:120]!r}, which is no image")
        manifest = parse_manifest(self._document(descriptor), what)
        config = parse_config(self._document(manifest.config), f"config {short(manifest.config.digest)}")
        if not fits(config.platform, self.architecture):
            self.others.append(str(config.platform))
            return None
        return Selected(descriptor=descriptor, manifest=manifest, config=config, indexes=ancestors)

    def _document(self, descriptor: Descriptor) -> bytes:
        self.documents += 1
        if self.documents > _MAX_DOCUMENTS:
            raise ImageInvalid(f"more than {_MAX_DOCUMENTS} documents lead to no image for this platform")
        return self.read(descriptor)
