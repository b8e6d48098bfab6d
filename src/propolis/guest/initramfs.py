"""The initramfs of a kernel: our init, what it stands on, and the kernel's modules. Made once per kernel and init.

It is not compressed: where guest code is emulated, decompressing costs more time than a few megabytes to copy do.
It lies in the kernel's bundle, so that it goes when the bundle goes.
"""

import hashlib
from pathlib import Path

from propolis.errors import KernelNotFound, KernelUnsuitable
from propolis.guest import bundle, cpio
from propolis.guest.binaries import init_path
from propolis.guest.bundle import Kernel
from propolis.host.files import write_atomically

VERSION = 1
"""Of what is written here; a change makes old files stale."""
INITRD_LIMIT = 1 << 30
_PREFIX = "initramfs-"


def contents(init: bytes) -> bytes:
    """The archive that holds `init` and what it and the kernel expect to find; modules have an archive of their own."""
    # init mounts over these; /l is where it stacks the layers
    directories = [cpio.directory(path) for path in ("dev", "proc", "sys", "run", "l")]
    devices = [cpio.character_device("dev/console", 5, 1), cpio.character_device("dev/null", 1, 3, 0o666)]
    return cpio.archive([*directories, *devices, cpio.file("init", init, 0o755)])


def joined(*archives: bytes) -> bytes:
    """Archives, compressed or not, one after the other, each where the kernel looks for it. Later files win."""
    return b"".join(archive + cpio.padding(len(archive)) for archive in archives)


def boot_files(kernel: Kernel, *, initrd: Path | None = None) -> tuple[Path, Path]:
    """The two files to boot: the kernel image and its initramfs, made now if it is not there yet.

    Args:
        kernel: from `kernel.find_kernel` or `kernel.given_kernel`.
        initrd: the user's own archive, for files that init or the kernel (microcode, ACPI tables, firmware) shall find.
            It comes first, so that our init and modules win over its own.

    Raises:
        KernelNotFound: the initrd cannot be read.
        KernelUnsuitable: the initrd is no archive that the kernel unpacks.
        KernelError: our init is not installed.
        StorageFull: no room in the cache.
        DiskError: the cache cannot be written to.
    """
    init = init_path(kernel.architecture).read_bytes()
    key = hashlib.sha256(f"{VERSION} {kernel.identity} ".encode() + hashlib.sha256(init).digest())
    if initrd is not None:
        key.update(_initrd_mark(initrd))
    path = kernel.image.parent / f"{_PREFIX}{key.hexdigest()[:16]}.cpio"
    if path.exists():
        bundle.touch(path)
    else:
        extra = b"" if initrd is None else _read_initrd(initrd)
        write_atomically(path, joined(extra, kernel.modules.read_bytes(), contents(init)))
        _prune(path)
    return kernel.image, path


def _prune(current: Path) -> None:
    for path in current.parent.glob(f"{_PREFIX}*"):
        if path != current and bundle.is_stale(path):
            path.unlink(missing_ok=True)


def _initrd_mark(path: Path) -> bytes:
    try:
        status = path.stat()
    except OSError as error:
        raise KernelNotFound(f"cannot read the initrd {path}: {error.strerror}") from error
    return f"{path.absolute()}\0{status.st_size}\0{status.st_mtime_ns}".encode("utf-8", "surrogateescape")


_INITRD_MAGICS = (
    *(b"070701", b"070702"),
    *(
        b"\x1f\x8b",
        b"\x1f\x9e",
        b"BZh",
        b"\x5d\0\0",
        b"\xfd7zXZ\0",
        b"\x89LZO",
        b"\x02\x21\x4c\x18",
        b"\x28\xb5\x2f\xfd",
    ),
)
"""What the kernel's init/initramfs.c and lib/decompress.c know."""


def _read_initrd(path: Path) -> bytes:
    try:
        if path.is_file() and path.stat().st_size > INITRD_LIMIT:
            raise KernelUnsuitable(f"the initrd {path} is larger than {INITRD_LIMIT >> 30} GiB")
        data = path.read_bytes()
    except OSError as error:
        raise KernelNotFound(f"cannot read the initrd {path}: {error.strerror}") from error
    if not data.startswith(_INITRD_MAGICS):
        raise KernelUnsuitable(
            f"{path} is not an initrd that the kernel can unpack",
            hint="give a cpio archive (newc), plain or compressed as the kernel supports it",
        )
    return data
