"""Finding a kernel for guests, checking it, and keeping it ready in the cache.

Three ways to one bundle: the kernel that this host has installed, the distribution's package fetched without installing
it, a file that the user names. Made once; afterwards a kernel is found by one look at /boot and one small file.
"""

import contextlib
import hashlib
import importlib.util
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from propolis.errors import KernelError, KernelNotFound, KernelUnsuitable
from propolis.guest import apt, bundle, elf, features, vmlinuz
from propolis.guest.bundle import Kernel, Source
from propolis.guest.modules import ModuleTree, Resolution, resolve
from propolis.progress import Reporter, Silent
from propolis.spec import Architecture

STEP = "import kernel"
_INSTALL_HINT = "install one (apt-get install linux-image-amd64), or name one by --kernel"
_SILENT = Silent()
_WANTED = (*features.MODULES, *features.SHARE_MODULES)


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
    """A kernel's modules in load order, and whether it can share directories, with them or without."""

    modules: Mapping[str, bytes]
    can_share: bool

    @property
    def for_shares(self) -> frozenset[str]:
        """Those that only shares need: they come after all the others."""
        names = list(self.modules)
        always = max((number + 1 for number, name in enumerate(names) if name in features.MODULES), default=0)
        return frozenset(names[always:])


def find_kernel(
    cache: Path, architecture: Architecture, reporter: Reporter = _SILENT, *, root: Path = Path("/")
) -> Kernel:
    """The kernel that guests get: the tuned one, else the installed one, else the distribution's package.

    The tuned one comes with the package `propolis-kernel`; `PROPOLIS_KERNEL=distribution` passes over it.

    Milliseconds once it is in the cache. Follows updates of an installed kernel; a downloaded one stays until its
    bundle is removed.

    Args:
        cache: the cache directory.
        architecture: of the guest.
        reporter: hears of downloading and importing.
        root: where /boot and /lib/modules are looked for.

    Raises:
        KernelNotFound: nothing installed that can be read, and apt has none.
        KernelUnsuitable: what there is cannot run guests.
        DiskError: the cache cannot be written to.
    """
    kernels = cache / "kernels"
    problems: list[KernelError] = []
    tuned = _tuned(architecture)
    if tuned is not None:
        return _tuned_kernel(kernels, tuned, architecture, reporter)
    for image in _installed(root):
        try:
            return _installed_kernel(kernels, image, root, architecture, reporter)
        except KernelError as error:
            problems.append(error)
    kernel = _downloaded_kernel(kernels, architecture)
    if kernel is not None:
        return kernel
    if not apt.available():
        raise _worst(problems) or KernelNotFound("this host has no kernel for guests", hint=_INSTALL_HINT)
    try:
        return _download(kernels, architecture, reporter)
    except KernelNotFound as error:
        raise _worst(problems) or error from error


def foreseen(cache: Path, architecture: Architecture, *, root: Path = Path("/")) -> str:
    """Tell what `find_kernel` would try first, without reading, making or fetching it.

    Raises:
        KernelNotFound: nothing is installed, and there is no apt to fetch one.
    """
    tuned = _tuned(architecture)
    if tuned is not None:
        return f"{_release_of(tuned)}, from propolis-kernel"
    installed = _installed(root)
    if installed:
        return f"{installed[0]}, installed"
    kernel = _downloaded_kernel(cache / "kernels", architecture)
    if kernel is not None:
        return f"{kernel.release}, from {kernel.origin}"
    if apt.available():
        return "none yet; the distribution's package is fetched with apt at first use, without installing it"
    raise KernelNotFound("this host has no kernel for guests", hint=_INSTALL_HINT)


def given_kernel(path: Path, cache: Path, architecture: Architecture, reporter: Reporter = _SILENT) -> Kernel:
    """The kernel that the user names.

    Its modules are looked for in `lib/modules/<release>` beside the image's directory, in it, and on this host; its
    configuration is `config-<release>` beside the image. Without modules everything has to be built in; where the
    configuration is unknown too, that is believed until the boot shows otherwise.

    Raises:
        KernelNotFound: there is no such file, or it cannot be read.
        KernelUnsuitable: it is no kernel, or one that cannot run guests.
        DiskError: the cache cannot be written to.
    """
    path = path.absolute()
    directory = cache / "kernels" / f"given-{_fingerprint(path)}"

    def find() -> _Found:
        image = _read_image(path)
        release = image.release or "of unknown release"
        places = (path.parent.parent, path.parent, Path("/"))
        trees = (place / "lib/modules" / release for place in places)
        tree = next((place for place in trees if place.is_dir()), None)
        drivers = _drivers_of_files(path.parent / f"config-{release}", tree, release, architecture)
        return _Found(Source.GIVEN, str(path), release, image, drivers)

    return _cached(directory, architecture) or _make(directory, architecture, reporter, str(path), find)


def _tuned(architecture: Architecture) -> Path | None:
    """The image in the package `propolis-kernel`, if that is installed."""
    if os.environ.get("PROPOLIS_KERNEL") == "distribution":
        return None
    package = importlib.util.find_spec("propolis_kernel")
    if package is None or package.origin is None:
        return None
    return next((Path(package.origin).parent / architecture).glob("vmlinuz-*"), None)


def _tuned_kernel(kernels: Path, image: Path, architecture: Architecture, reporter: Reporter) -> Kernel:
    release = _release_of(image)
    directory = kernels / f"tuned-{release}-{_fingerprint(image)}"

    def find() -> _Found:
        drivers = _drivers_of_files(image.parent / f"config-{release}", None, release, architecture)
        return _Found(Source.TUNED, str(image), release, _read_image(image), drivers)

    return _cached(directory, architecture) or _make(directory, architecture, reporter, str(image), find)


def _installed(root: Path) -> list[Path]:
    """Kernel images in /boot, the newest release first."""
    try:
        images = [path for path in (root / "boot").iterdir() if path.name.startswith("vmlinuz-") and path.is_file()]
    except OSError:
        return []
    return sorted(images, key=lambda path: _version(_release_of(path)), reverse=True)


def _installed_kernel(kernels: Path, image: Path, root: Path, architecture: Architecture, reporter: Reporter) -> Kernel:
    release = _release_of(image)
    directory = kernels / f"installed-{release}-{_fingerprint(image)}"
    tree = root / "lib/modules" / release

    def find() -> _Found:
        # the modules first: whether they will do is known sooner
        config = image.parent / f"config-{release}"
        drivers = _drivers_of_files(config, tree if tree.is_dir() else None, release, architecture)
        return _Found(Source.INSTALLED, str(image), release, _read_image(image), drivers)

    return _cached(directory, architecture) or _make(directory, architecture, reporter, str(image), find)


def _downloaded_kernel(kernels: Path, architecture: Architecture) -> Kernel | None:
    """The newest that was downloaded before."""
    cached = (_cached(path, architecture) for path in kernels.glob("downloaded-*"))
    return max((kernel for kernel in cached if kernel), key=lambda kernel: _version(kernel.release), default=None)


def _download(kernels: Path, architecture: Architecture, reporter: Reporter) -> Kernel:
    from propolis.guest import package

    with bundle.exclusive(kernels):
        kernel = _downloaded_kernel(kernels, architecture)  # somebody else may have been quicker
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
            unpacked = package.read(paths, _WANTED)
        release = unpacked.release
        config = None if unpacked.config is None else features.parse_config(unpacked.config)
        drivers = _checked(release, architecture, config, unpacked.resolution, unpacked.builtin)
        image = vmlinuz.read(unpacked.image, origin)
        found = _Found(Source.DOWNLOADED, origin, release, image, drivers)
        mark = hashlib.sha256(origin.encode()).hexdigest()[:12]
        kernel = _store(kernels / f"downloaded-{release}-{mark}", architecture, found)
        reporter.end(STEP, origin)
        return kernel


def _make(
    directory: Path, architecture: Architecture, reporter: Reporter, origin: str, find: Callable[[], _Found]
) -> Kernel:
    """Make a bundle, unless somebody else does it meanwhile."""
    with bundle.exclusive(directory.parent):
        kernel = _cached(directory, architecture)
        if kernel is None:
            reporter.begin(STEP, origin)
            kernel = _store(directory, architecture, find())
            reporter.end(STEP, origin)
        return kernel


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
        for_shares=found.drivers.for_shares,
        can_share=found.drivers.can_share,
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
        return _Drivers({}, features.can_share(config, lambda _: config is None))
    tree = ModuleTree.scan(tree_path)
    return _checked(release, architecture, config, resolve(_WANTED, tree.builtin, tree.find), tree.builtin)


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
    if incomplete := resolution.missing - set(_WANTED):
        raise KernelUnsuitable(
            f"the module tree of kernel {release} is incomplete: {', '.join(sorted(incomplete))} not found",
            hint="install the kernel package again, or name another kernel by --kernel",
        )
    can_share = features.can_share(config, lambda name: name in loadable)
    if config is None or config.get("MODULE_SIG_FORCE") == "y":
        return _Drivers(resolution.modules, can_share)
    # the host vouches for them; the guest would spend two thirds of the loading on verifying signatures
    return _Drivers({name: elf.without_signature(data) for name, data in resolution.modules.items()}, can_share)


def _cached(directory: Path, architecture: Architecture) -> Kernel | None:
    kernel = bundle.load(directory)
    if kernel is None or kernel.architecture is not architecture:
        return None
    bundle.touch(directory / bundle.MANIFEST)
    return kernel


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


def _fingerprint(path: Path) -> str:
    """Changes when the file at `path` is replaced."""
    try:
        status = path.stat()
    except OSError:
        return "absent"
    mark = f"{path}\0{status.st_size}\0{status.st_mtime_ns}"
    return hashlib.sha256(mark.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _release_of(image: Path) -> str:
    return image.name.removeprefix("vmlinuz-")


def _version(release: str) -> list[tuple[int, str]]:
    """A sort key: numbers by value, words by their letters, a number after a word."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.findall(r"\d+|[^\W\d]+", release)]


def _worst(problems: list[KernelError]) -> KernelError | None:
    """The reason that concerns the newest kernel."""
    return problems[0] if problems else None
