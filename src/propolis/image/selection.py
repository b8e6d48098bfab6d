"""Which of several manifests is meant: by platform, descending through nested indexes.

No I/O of its own: documents come from the caller's `read`, which verifies digest and size.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

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
from propolis.image.platforms import fits, is_baseline

MAX_NESTING = 4
"""Indexes inside indexes."""
_MAX_DOCUMENTS = 64
"""Documents read in search of one image."""

_LONGEST_SHOWN = 80
"""Characters of what an image calls its platform."""

Read = Callable[[Descriptor], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """The image that was meant."""

    descriptor: Descriptor
    manifest: Manifest
    config: Config
    indexes: tuple[str, ...] = ()
    """Digests of the indexes that led to it, outermost first."""


def select(candidates: Iterable[Descriptor], wanted: Platform, read: Read, what: str) -> Selected:
    """Find the image for the platform `wanted` among `candidates` and what they lead to.

    Where any variant will do, the least demanding wins. A candidate that does not tell its platform is judged by its
    config.

    Raises:
        PlatformMismatch: none fits; the message lists what is there.
        ImageInvalid: a document breaks the specification, indexes are nested too deeply or contain themselves.
    """
    search = _Search(wanted, read)
    found = search.descend(candidates, ())
    if found is None:
        raise mismatch(search.others, wanted, what)
    return found


def mismatch(present: Iterable[str], wanted: Platform, what: str) -> PlatformMismatch:
    """The error that says which platforms are there instead of the wanted one."""
    listed = ", ".join(platform[:_LONGEST_SHOWN] for platform in sorted(set(present))[:12]) or "no platform at all"
    override = f"--override-arch {wanted.architecture}"
    override += f" --override-variant {wanted.variant}" if wanted.variant else ""
    return PlatformMismatch(
        f"{what} is for {listed}, not for {wanted}",
        hint=f"look for another tag, or build it for {wanted}; a copy is made again with skopeo copy {override} ...",
    )


@dataclass(slots=True)
class _Search:
    wanted: Platform
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
            elif fits(platform, self.wanted):
                demanding = not is_baseline(platform)
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
        # the variant is the index's word: configs seldom tell it
        wanted = replace(self.wanted, variant="") if descriptor.platform else self.wanted
        if not fits(config.platform, wanted):
            self.others.append(str(config.platform))
            return None
        return Selected(descriptor=descriptor, manifest=manifest, config=config, indexes=ancestors)

    def _document(self, descriptor: Descriptor) -> bytes:
        self.documents += 1
        if self.documents > _MAX_DOCUMENTS:
            raise ImageInvalid(f"more than {_MAX_DOCUMENTS} documents lead to no image for this platform")
        return self.read(descriptor)
