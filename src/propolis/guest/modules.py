"""Which modules a guest loads, in which order, taken from a distribution's module tree.

Dependencies are read from the modules themselves: `modules.dep` is made on installation, a package does not have it.
Knows nothing of where a tree comes from: a lookup by name is all it asks for.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from propolis.errors import KernelUnsuitable
from propolis.guest import compression, elf

BUILTIN_LIST = "modules.builtin"
MODULE_LIMIT = 64 << 20
_COUNT_LIMIT = 100_000
_SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")

PROVIDERS = {"crypto_crc32c": "crc32c_generic"}
"""Who fulfils a soft dependency that names an alias: the plain implementation, which every processor can run."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What has to be loaded."""

    modules: Mapping[str, bytes]
    """Names to uncompressed modules, in load order."""
    missing: frozenset[str] = frozenset()
    """Needed names that were not found and are not built in; nothing that depends on them will load."""
    needs: Mapping[str, frozenset[str]] = field(default_factory=dict, repr=False)
    """What each module depends on, directly."""

    def closure(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of the modules that `names` are or depend on, in load order."""
        wanted: set[str] = set()
        ahead = [elf.normalise(name) for name in names]
        while ahead:
            name = ahead.pop()
            if name in self.modules and name not in wanted:
                wanted.add(name)
                ahead += self.needs.get(name, ())
        return tuple(name for name in self.modules if name in wanted)


def module_name(file_name: str) -> str | None:
    """The module that a file holds, going by its name; None for other files."""
    for suffix in _SUFFIXES:
        if file_name.endswith(suffix):
            return elf.normalise(file_name.removesuffix(suffix))
    return None


def parse_builtin(text: str) -> frozenset[str]:
    """Names in `modules.builtin`: modules that this kernel has inside."""
    names = (module_name(PurePosixPath(line).name) for line in text.splitlines())
    return frozenset(name for name in names if name)


def resolve(names: Iterable[str], builtin: frozenset[str], find: Callable[[str], bytes | None]) -> Resolution:
    """Find `names` and all they depend on. `find` returns a module's file as it is stored, or None.

    A soft dependency that nobody fulfils is left out, as modprobe does.

    Raises:
        KernelUnsuitable: a module is damaged.
    """
    ordered: dict[str, bytes] = {}
    needs: dict[str, frozenset[str]] = {}
    missing: set[str] = set()
    visited: set[str] = set()

    def visit(name: str, *, soft: bool = False) -> None:
        name = PROVIDERS.get(name, name) if soft else name
        if name in visited or name in builtin:
            return
        stored = find(name)
        if stored is None:
            if not soft:
                missing.add(name)
            return
        visited.add(name)  # before descending: a cycle ends here
        module = compression.decompress(stored, MODULE_LIMIT, f"kernel module {name}")
        info = elf.module_info(module, f"kernel module {name}")
        for wanted in info.soft:
            visit(wanted, soft=True)
        for wanted in info.depends:
            visit(wanted)
        needs[name] = frozenset((*(PROVIDERS.get(wanted, wanted) for wanted in info.soft), *info.depends))
        ordered[name] = module

    for name in names:
        visit(elf.normalise(name))
    return Resolution(ordered, frozenset(missing), needs)


@dataclass(frozen=True, slots=True)
class ModuleTree:
    """An unpacked `/lib/modules/<release>`: looked through once, read where asked."""

    directory: Path
    builtin: frozenset[str]
    _paths: dict[str, Path] = field(repr=False)

    @classmethod
    def scan(cls, directory: Path) -> "ModuleTree":
        """Index `directory`.

        Raises:
            KernelUnsuitable: it cannot be read, or holds absurdly many files.
        """
        paths: dict[str, Path] = {}
        try:
            for parent, _, files in os.walk(directory, onerror=_raise):
                for file_name in files:
                    if name := module_name(file_name):
                        paths[name] = Path(parent, file_name)
                if len(paths) > _COUNT_LIMIT:
                    raise KernelUnsuitable(f"{directory} holds more modules than any kernel has")
            listed = directory / BUILTIN_LIST
            builtin = parse_builtin(listed.read_text("utf-8", "replace")) if listed.exists() else frozenset()
        except OSError as error:
            raise KernelUnsuitable(f"cannot read the modules in {directory}: {error.strerror}") from error
        return cls(directory, builtin, paths)

    def find(self, name: str) -> bytes | None:
        """The file that holds module `name`, as it is stored; None when there is none.

        Raises:
            KernelUnsuitable: the file cannot be read, or is too large to be a module.
        """
        path = self._paths.get(name)
        if path is None:
            return None
        try:
            if path.stat().st_size > MODULE_LIMIT:
                raise KernelUnsuitable(f"{path} is too large to be a kernel module")
            return path.read_bytes()
        except OSError as error:
            raise KernelUnsuitable(f"cannot read the module {path}: {error.strerror}") from error


def _raise(error: OSError) -> None:
    raise error
