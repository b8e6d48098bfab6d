"""A kernel taken out of the distribution's packages: its image, its configuration and the modules asked for.

The packages are streams of some 400 MB, so they are read as seldom as possible: a pass collects every module that was
asked for or is likely to be, and only a dependency nobody thought of costs another pass.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from propolis.errors import KernelUnsuitable
from propolis.guest import deb, vmlinuz
from propolis.guest.modules import BUILTIN_LIST, MODULE_LIMIT, Resolution, module_name, parse_builtin, resolve

_TEXT_LIMIT = 4 << 20
_PASSES = 8
_LIKELY = frozenset(
    {
        *("virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_pci_legacy_dev"),
        *(
            "scsi_mod",
            "scsi_common",
            "t10_pi",
            "crc_t10dif",
            "crct10dif",
            "crct10dif_common",
            "crc64",
            "crc64_rocksoft",
        ),
        *("9pnet", "netfs", "fscache"),
        *("scsi_transport_fc", "vsock", "ptp", "pps_core"),
        *("crc16", "mbcache", "jbd2", "crc32c_generic", "libcrc32c"),
    }
)
"""What the modules we ask for depend on in Debian's and Ubuntu's kernels; saves passes, decides nothing."""


@dataclass(slots=True)
class Unpacked:
    """What the packages hold."""

    image: bytes = b""
    release: str = ""
    config: str | None = None
    builtin: frozenset[str] = frozenset()
    resolution: Resolution = field(default_factory=lambda: Resolution({}))


def read(packages: Sequence[Path], names: Iterable[str]) -> Unpacked:
    """Take the kernel and the modules `names`, with all they depend on, out of `packages`.

    Raises:
        KernelUnsuitable: a package is damaged, or there is no kernel in them.
    """
    result = Unpacked()
    names = tuple(names)
    wanted = {*names, *_LIKELY}
    stored: dict[str, bytes] = {}
    asked: set[str] = set()

    def find(name: str) -> bytes | None:
        asked.add(name)
        return stored.get(name)

    for _ in range(_PASSES):
        for package in packages:
            _collect(package, result, wanted - stored.keys(), stored)
        if not result.image:
            raise KernelUnsuitable(f"there is no kernel in {', '.join(package.name for package in packages)}")
        result.resolution = resolve(names, result.builtin, find)
        if asked <= wanted:
            break
        wanted |= asked
    return result


def _collect(package: Path, result: Unpacked, wanted: set[str], stored: dict[str, bytes]) -> None:
    for file in deb.files(package):
        directory, _, name = file.path.rpartition("/")
        if directory.removeprefix("usr/") == "boot" or directory.startswith(("lib/modules/", "usr/lib/modules/")):
            module = module_name(name)
            if module in wanted:
                stored[module] = _bounded(file, MODULE_LIMIT)
            elif name == BUILTIN_LIST:
                result.builtin = parse_builtin(_bounded(file, _TEXT_LIMIT).decode("utf-8", "replace"))
            elif name.startswith("vmlinuz-"):
                result.release = name.removeprefix("vmlinuz-")
                result.image = _bounded(file, vmlinuz.FILE_LIMIT)
            elif name.startswith("config-"):
                result.config = _bounded(file, _TEXT_LIMIT).decode("utf-8", "replace")


def _bounded(file: deb.PackagedFile, limit: int) -> bytes:
    if file.size > limit:
        raise KernelUnsuitable(f"{file.path} in the kernel package is larger than {limit >> 20} MiB")
    return file.read()
