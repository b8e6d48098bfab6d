"""Making a kernel's bundle: its image decompressed, its modules chosen, both checked for what a guest needs.

Of a file on this host, or of the distribution's package, which apt fetches without installing it. Two processes that
want the same bundle make it once.
"""

import contextlib
import hashlib
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from propolis.errors import KernelNotFound, KernelUnsuitable
from propolis.guest import apt, bundle, elf, features, package, vmlinuz
from propolis.guest.bundle import Kernel, Source
from propolis.guest.modules import ModuleTree, Resolution, resolve
from propolis.progress import Reporter
from propolis.spec import Architecture

STEP = "import kernel"


@dataclass(frozen=True, slots=True)
class _Found:
    """A kernel where it came from, checked."""

    source: Source
    origin: str
    release: str
    image: vmlinuz.Image
    drivers: "_Drivers"


@dataclass(frozen=True, slots=True)
class _Drivers:
    """A kernel's modules, which of them are loaded when, and what it can do, with them or without."""

    modules: Mapping[str, bytes]
    lists: Mapping[str, Sequence[str]]
    abilities: frozenset[features.Ability]


def import_file(
    directory: Path,
    architecture: Architecture,
    source: Source,
    image: Path,
    reporter: Reporter,
    *,
    release: str = "",
    roots: Sequence[Path] = (),
) -> Kernel:
    """Make the bundle `directory` of the kernel in the file `image`, unless somebody else does it meanwhile.

    Args:
        directory: where the bundle goes.
        architecture: of the guest.
        source: where the kernel comes from.
        image: the kernel; its configuration is `config-<release>` beside it.
        reporter: hears of it.
        release: what it is, if that is known without reading it.
        roots: where `lib/modules/<release>` is looked for.

    Raises:
        KernelNotFound: the image cannot be read.
        KernelUnsuitable: it is no kernel, or one that cannot run guests.
        DiskError: the cache cannot be written to.
    """
    with bundle.exclusive(directory.parent):
        kernel = bundle.ready(directory, architecture)
        if kernel is None:
            reporter.begin(STEP, str(image))
            kernel = _store(directory, architecture, _found(image, architecture, source, release, roots))
            reporter.end(STEP, str(image))
        return kernel


def import_package(kernels: Path, architecture: Architecture, reporter: Reporter) -> Kernel:
    """Fetch the distribution's package and make a bundle of it, unless somebody else does it meanwhile.

    Raises:
        KernelNotFound: apt has none.
        KernelUnsuitable: it cannot run guests.
        DiskError: the cache cannot be written to.
    """
    with bundle.exclusive(kernels):
        kernel = bundle.newest(kernels, Source.DOWNLOADED, architecture)  # somebody else may have been quicker
        if kernel is not None:
            return kernel
        parts = apt.resolve(architecture)
        with bundle.staged_directory(kernels) as staged:
            paths = []
            for index, part in enumerate(parts):
                place = staged / str(index)
                place.mkdir()
                paths.append(apt.download(part, place, reporter))
            origin = " ".join(f"{part.name} {part.version}" for part in parts)
            reporter.begin(STEP, origin)
            unpacked = package.read(paths, features.WANTED)
        release = unpacked.release
        config = None if unpacked.config is None else features.parse_config(unpacked.config)
        drivers = _checked(release, architecture, config, unpacked.resolution, unpacked.builtin)
        image = vmlinuz.read(unpacked.image, origin)
        found = _Found(Source.DOWNLOADED, origin, release, image, drivers)
        mark = hashlib.sha256(origin.encode()).hexdigest()[:12]
        kernel = _store(kernels / f"downloaded-{release}-{mark}", architecture, found)
        reporter.end(STEP, origin)
        return kernel


def _found(image: Path, architecture: Architecture, source: Source, release: str, roots: Sequence[Path]) -> _Found:
    """Read a kernel and its modules; where the release is known the modules come first, as they are read sooner."""
    read = None if release else _read_image(image)
    release = release or (read.release if read else "") or "of unknown release"
    trees = (root / "lib/modules" / release for root in roots)
    tree = next((place for place in trees if place.is_dir()), None)
    drivers = _drivers_of_files(image.parent / f"config-{release}", tree, release, architecture)
    return _Found(source, str(image), release, read or _read_image(image), drivers)


def _store(directory: Path, architecture: Architecture, found: _Found) -> Kernel:
    """Write the bundle, and remove those that it replaces."""
    if found.image.architecture is not architecture:
        raise KernelUnsuitable(f"{found.origin} is a kernel for {found.image.architecture}, not for {architecture}")
    kernel = bundle.store(
        directory,
        release=found.release,
        architecture=architecture,
        source=found.source,
        origin=found.origin,
        image=found.image.data,
        modules=found.drivers.modules,
        lists=found.drivers.lists,
        abilities=found.drivers.abilities,
    )
    _prune(kernel)
    return kernel


def _drivers_of_files(config_path: Path, tree_path: Path | None, release: str, architecture: Architecture) -> _Drivers:
    """The modules that a kernel on this host needs, checked."""
    try:
        config = features.parse_config(config_path.read_text("utf-8", "replace"))
    except OSError:
        config = None
    if tree_path is None:
        if config is not None:
            features.check(release, architecture, config, lambda _: False)
        return _Drivers({}, {}, features.abilities(config, lambda _: config is None))
    tree = ModuleTree.scan(tree_path)
    return _checked(release, architecture, config, resolve(features.WANTED, tree.builtin, tree.find), tree.builtin)


def _checked(
    release: str,
    architecture: Architecture,
    config: Mapping[str, str] | None,
    resolution: Resolution,
    builtin: frozenset[str],
) -> _Drivers:
    """The modules in the form that guests load, provided that the kernel can run guests with them."""
    loadable = {*resolution.modules, *builtin}
    features.check(release, architecture, config, lambda name: name in loadable)
    if incomplete := resolution.missing - set(features.WANTED):
        raise KernelUnsuitable(
            f"the module tree of kernel {release} is incomplete: {', '.join(sorted(incomplete))} not found",
            hint="install the kernel package again, or name another kernel by --kernel",
        )
    modules = resolution.modules
    if config is not None and config.get("MODULE_SIG_FORCE") != "y":
        # the host vouches for them; the guest would spend two thirds of the loading on verifying signatures
        modules = {name: elf.without_signature(data) for name, data in modules.items()}
    return _Drivers(modules, _lists(resolution), features.abilities(config, lambda name: name in loadable))


def _lists(resolution: Resolution) -> dict[str, list[str]]:
    """The load lists of a guest: what each needs and nobody has loaded before it."""
    lists: dict[str, list[str]] = {}
    for file, names, after in features.LISTS:
        loaded = {name for earlier in after for name in lists[earlier]}
        lists[file] = [name for name in resolution.closure(names) if name not in loaded]
    return lists


def _prune(kernel: Kernel) -> None:
    """Remove the bundles that `kernel` replaces, but for those in use a short while ago."""
    own = kernel.image.parent
    for directory in own.parent.glob(f"{kernel.source}-*"):
        other = bundle.load(directory)
        replaced = other is None or (
            other.architecture is kernel.architecture
            and (kernel.source is not Source.GIVEN or other.origin == kernel.origin)
        )
        if directory != own and replaced and bundle.is_stale(directory / bundle.MANIFEST):
            grave = own.parent / f"{bundle.STAGE_PREFIX}{secrets.token_hex(6)}"
            with contextlib.suppress(OSError):
                directory.rename(grave)
                shutil.rmtree(grave, ignore_errors=True)


def _read_image(path: Path) -> vmlinuz.Image:
    try:
        if path.is_dir():
            raise KernelUnsuitable(f"{path} is a directory, not a kernel image")
        if path.stat().st_size > vmlinuz.FILE_LIMIT:
            raise KernelUnsuitable(f"{path} is too large to be a kernel image")
        return vmlinuz.read(path.read_bytes(), str(path))
    except FileNotFoundError as error:
        raise KernelNotFound(f"there is no kernel image {path}") from error
    except PermissionError as error:
        raise KernelNotFound(
            f"the kernel image {path} may not be read by you",
            hint=f"let it be read (sudo chmod a+r {path}), or name a copy by --kernel",
        ) from error
    except OSError as error:
        raise KernelNotFound(f"cannot read the kernel image {path}: {error.strerror}") from error
