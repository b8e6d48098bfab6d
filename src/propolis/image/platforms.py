"""Platforms as users and images write them: `linux/arm64/v8`, `amd64`, `linux/x86_64`.

Pure. Names and their synonyms are containerd's; a variant that is left out of an image's platform is the one that every
processor of the architecture runs.
"""

import re
from dataclasses import replace

from propolis.errors import InvalidArgument
from propolis.image.manifest import Platform
from propolis.spec import Architecture

_SYNONYMS = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "i386": ("386", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_KNOWN = (
    *("386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle"),
    *("ppc64", "ppc64le", "riscv64", "s390x"),
)
"""Go's names of what Linux runs on, which images have to use."""
_BASELINES = {"amd64": "v1", "arm64": "v8", "arm": "v7"}
_GO_NAMES = {Architecture.X86_64: "amd64", Architecture.AARCH64: "arm64"}
_PART = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_MOST_PARTS = 3


def parse_platform(text: str) -> Platform:
    """Read `[linux/]ARCHITECTURE[/VARIANT]`; without a variant any will do.

    Raises:
        InvalidArgument: it is no platform, not one of linux, or of an architecture that nobody knows.
    """
    parts = text.split("/")
    if not all(map(_PART.fullmatch, parts)) or len(parts) > _MOST_PARTS:
        raise InvalidArgument(f"{text[:80]!r} is no platform", hint="as in linux/amd64 or linux/arm64/v8")
    if len(parts) == 1:
        parts.insert(0, "linux")
    system, architecture, variant = (part.lower() for part in (*parts, "")[:_MOST_PARTS])
    if system != "linux":
        raise InvalidArgument(f"{text!r} is not a platform of linux", hint="machines run linux, as in linux/amd64")
    platform = _spelled(Platform(os=system, architecture=architecture, variant=variant))
    if platform.architecture not in _KNOWN:
        raise InvalidArgument(f"{architecture!r} is no architecture", hint=f"known are {', '.join(_KNOWN)}")
    return platform


def platform_of(architecture: Architecture) -> Platform:
    """Linux on `architecture`, any variant."""
    return Platform(os="linux", architecture=_GO_NAMES[architecture])


def architecture_of(platform: Platform) -> Architecture | None:
    """What a guest for `platform` runs on; None where there are no such guests."""
    found = _spelled(platform).architecture
    return next((architecture for architecture, name in _GO_NAMES.items() if name == found), None)


def fits(platform: Platform, wanted: Platform) -> bool:
    """Whether an image for `platform` is one of those that `wanted` asks for."""
    found = completed(platform)
    return (found.os, found.architecture) == (wanted.os, wanted.architecture) and wanted.variant in ("", found.variant)


def is_baseline(platform: Platform) -> bool:
    """Whether every processor of the architecture runs it."""
    return completed(platform).variant == _BASELINES.get(completed(platform).architecture, "")


def completed(platform: Platform) -> Platform:
    """An image's platform as `wanted` ones are spelled, with the variant that is meant where none is told."""
    found = _spelled(platform)
    return found if found.variant else replace(found, variant=_BASELINES.get(found.architecture, ""))


def _spelled(platform: Platform) -> Platform:
    architecture, variant = _SYNONYMS.get(platform.architecture.lower(), (platform.architecture.lower(), ""))
    variant = platform.variant.lower() or variant
    return replace(platform, architecture=architecture, variant=f"v{variant}" if variant[:1].isdigit() else variant)
