"""Which backends there are, and which one a machine gets.

Built-in ones and those that other packages register under the entry point group `propolis.backends`. When none is
usable the error lists every candidate with its reason.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from propolis.errors import BackendUnavailable, InvalidArgument
from propolis.hypervisor.base import Availability, Backend
from propolis.hypervisor.qemu.backend import QemuBackend

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "propolis.backends"


def _hyperv() -> Backend:
    from propolis.hypervisor.hyperv.backend import HypervBackend

    return HypervBackend()


_HYPERV: dict[str, Callable[[], Backend]] = {"hyperv": _hyperv}
_ON_WINDOWS = sys.platform == "win32"
_BUILT_IN: dict[str, Callable[[], Backend]] = (_HYPERV if _ON_WINDOWS else {}) | {"qemu": QemuBackend}
_ELSEWHERE: dict[str, Callable[[], Backend]] = {} if _ON_WINDOWS else _HYPERV
"""Those that this system cannot have: no candidates, but who asks for one by name is told why."""


def _registered() -> Iterable["EntryPoint"]:
    """What other packages register. Asked for only when needed: it reads the metadata of every installed package."""
    from importlib import metadata

    return metadata.entry_points(group=ENTRY_POINTS)


def names() -> Iterator[str]:
    """Every backend's name: the built-in ones, best first, then those of other packages."""
    yield from _BUILT_IN
    yield from sorted({point.name for point in _registered()}.difference(_BUILT_IN))


def create(name: str) -> Backend:
    """The backend of that name, usable or not.

    Raises:
        InvalidArgument: there is no backend of that name.
        BackendUnavailable: the package that registers it cannot be imported.
    """
    if (make := _BUILT_IN.get(name) or _ELSEWHERE.get(name)) is not None:
        return make()
    for point in (point for point in _registered() if point.name == name):
        try:
            backend: Backend = point.load()()
        except Exception as error:
            raise BackendUnavailable(
                f"the backend {name!r} ({point.value}) cannot be loaded: {error}", hint="update or remove that package"
            ) from error
        return backend
    raise InvalidArgument(f"there is no backend named {name!r}", hint=f"choose one of: {', '.join(names())}")


def choose(name: str | None = None) -> tuple[Backend, Availability]:
    """The backend called `name`, or else the first usable one in order of preference.

    Raises:
        InvalidArgument: there is no backend of that name.
        BackendUnavailable: it, or none of them, can be used here; the message says why for each.
    """
    failures: list[tuple[str, Availability]] = []
    for candidate in names() if name is None else [name]:
        try:
            backend = create(candidate)
        except BackendUnavailable as error:
            # a broken package that nobody asked for does not stand in the way of the others
            failures.append((candidate, Availability.unusable(str(error), error.hint)))
            continue
        availability = backend.availability()
        if availability.usable:
            return backend, availability
        failures.append((candidate, availability))
    reasons = "; ".join(f"{candidate}: {found.reason}" for candidate, found in failures)
    remedies = " or ".join(found.remedy for _, found in failures if found.remedy)
    raise BackendUnavailable(f"no usable hypervisor backend ({reasons})", hint=remedies or "run `propolis doctor`")
