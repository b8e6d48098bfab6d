"""Finding a kernel for guests.

Three ways to one bundle in the cache: a kernel on this host (the package propolis-kernel, or what is installed), the
distribution's package fetched without installing it, a file that the user names. Once a bundle is made (`importing`), a
kernel is found by one look at /boot and one small file.
"""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from propolis.errors import KernelError, KernelNotFound
from propolis.guest import bundle
from propolis.guest.bundle import Kernel, Source
from propolis.progress import Reporter, Silent
from propolis.spec import Architecture

_INSTALL_HINT = (
    "install the package propolis-kernel with pip, or name one by --kernel"
    if sys.platform == "win32"
    else "install one (apt-get install linux-image-amd64), or name one by --kernel"
)
_SILENT = Silent()


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
        release = _release_of(tuned)
        directory = kernels / f"{Source.TUNED}-{release}-{_fingerprint(tuned)}"
        return _of_file(directory, architecture, Source.TUNED, tuned, reporter, release=release)
    for image in _installed(root):
        try:
            release = _release_of(image)
            directory = kernels / f"{Source.INSTALLED}-{release}-{_fingerprint(image)}"
            return _of_file(directory, architecture, Source.INSTALLED, image, reporter, release=release, roots=(root,))
        except KernelError as error:
            problems.append(error)
    kernel = bundle.newest(kernels, Source.DOWNLOADED, architecture)
    if kernel is not None:
        return kernel
    from propolis.guest import apt, importing

    if not apt.available():
        raise _worst(problems) or KernelNotFound("this host has no kernel for guests", hint=_INSTALL_HINT)
    try:
        return importing.import_package(kernels, architecture, reporter)
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
    kernel = bundle.newest(cache / "kernels", Source.DOWNLOADED, architecture)
    if kernel is not None:
        return f"{kernel.release}, from {kernel.origin}"
    from propolis.guest import apt

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
    places = (path.parent.parent, path.parent, Path("/"))
    return _of_file(directory, architecture, Source.GIVEN, path, reporter, roots=places)


def _tuned(architecture: Architecture) -> Path | None:
    """The image in the package `propolis-kernel`, if that is installed."""
    if os.environ.get("PROPOLIS_KERNEL") == "distribution":
        return None
    package = importlib.util.find_spec("propolis_kernel")
    if package is None or package.origin is None:
        return None
    return next((Path(package.origin).parent / architecture).glob("vmlinuz-*"), None)


def _of_file(
    directory: Path,
    architecture: Architecture,
    source: Source,
    image: Path,
    reporter: Reporter,
    *,
    release: str = "",
    roots: Sequence[Path] = (),
) -> Kernel:
    """The bundle of the kernel in a file, made now if it is not there yet."""
    kernel = bundle.ready(directory, architecture)
    if kernel is None:
        from propolis.guest import importing

        kernel = importing.import_file(directory, architecture, source, image, reporter, release=release, roots=roots)
    return kernel


def _installed(root: Path) -> list[Path]:
    """Kernel images in /boot, the newest release first."""
    try:
        images = [path for path in (root / "boot").iterdir() if path.name.startswith("vmlinuz-") and path.is_file()]
    except OSError:
        return []
    return sorted(images, key=lambda path: bundle.release_key(_release_of(path)), reverse=True)


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


def _worst(problems: list[KernelError]) -> KernelError | None:
    """The reason that concerns the newest kernel."""
    return problems[0] if problems else None
