"""What a guest needs of its kernel, as data, and whether a given kernel has it.

Pure: a kernel configuration (`config-<release>`, Kconfig's output) and module names in, verdict out. Modules are named
as the kernel names them.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from propolis.errors import KernelUnsuitable
from propolis.spec import Architecture

_LINE = re.compile(r"^CONFIG_(\w+)=(.*)$", re.MULTILINE)
_HINT = (
    "use the distribution's general kernel (package linux-image-amd64 or linux-image-arm64), or name one by --kernel"
)


class Feature(NamedTuple):
    """One need. Without a module it has to be built in."""

    symbol: str
    """Of Kconfig, without CONFIG_."""
    why: str
    module: str = ""


MODULAR = (
    Feature("VIRTIO_PCI", "the bus of every virtual device", "virtio_pci"),
    Feature("VIRTIO_CONSOLE", "the channel between the host and the guest's agent", "virtio_console"),
    Feature("SCSI_VIRTIO", "the controller of the layer disks", "virtio_scsi"),
    Feature("BLK_DEV_SD", "the layer disks", "sd_mod"),
    Feature("EXT4_FS", "the file system of the disks", "ext4"),
    Feature("OVERLAY_FS", "one tree out of the layers", "overlay"),
)
"""Built in, or modules that our init loads. Each module costs boot time, so there are no others."""

BUILT_IN = (
    Feature("BLK_DEV_INITRD", "our init is in an initramfs"),
    Feature("BINFMT_ELF", "our init is an ELF program"),
    Feature("BINFMT_SCRIPT", "images start scripts"),
    Feature("DEVTMPFS", "/dev"),
    Feature("TMPFS", "/run and /dev/shm"),
    Feature("PROC_FS", "/proc"),
    Feature("SYSFS", "/sys, where disks are found by their address"),
    Feature("UNIX98_PTYS", "terminals"),
)

CONSOLE = {
    Architecture.X86_64: Feature("SERIAL_8250_CONSOLE", "the serial console"),
    Architecture.AARCH64: Feature("SERIAL_AMBA_PL011_CONSOLE", "the serial console"),
}

MODULES = tuple(feature.module for feature in MODULAR)
"""What is loaded before anything else, in this order, each after what it depends on."""

SHARES = (
    Feature("NET_9P_VIRTIO", "directories shared with the host", "9pnet_virtio"),
    Feature("9P_FS", "directories shared with the host", "9p"),
)
"""What is loaded only for machines that see directories of the host. A kernel without them runs all others."""
SHARE_MODULES = tuple(feature.module for feature in SHARES)


def can_share(config: Mapping[str, str] | None, available: Callable[[str], bool]) -> bool:
    """Whether a kernel can show a guest directories of the host; without its configuration, modules decide."""
    values = [(feature, "m" if config is None else config.get(feature.symbol)) for feature in SHARES]
    return all(value == "y" or (value == "m" and available(feature.module)) for feature, value in values)


def parse_config(text: str) -> dict[str, str]:
    """Symbols without CONFIG_ to values as they stand there; symbols that are not set are absent."""
    return dict(_LINE.findall(text))


def check(
    release: str,
    architecture: Architecture,
    config: Mapping[str, str] | None,
    available: Callable[[str], bool],
) -> None:
    """Check that a kernel can run guests. An unknown configuration (None) is believed where it is silent.

    Args:
        release: names the kernel in the message.
        architecture: of the guest.
        config: the kernel's configuration.
        available: whether the module of that name can be loaded or is built in, as far as is known.

    Raises:
        KernelUnsuitable: naming each missing feature and its symbol.
    """
    missing = []
    if config is not None:
        missing = [feature for feature in (*BUILT_IN, CONSOLE[architecture]) if config.get(feature.symbol) != "y"]
    for feature in MODULAR:
        value = "m" if config is None else config.get(feature.symbol)
        if value != "y" and (value != "m" or not available(feature.module)):
            missing.append(feature)
    if missing:
        names = ", ".join(_describe(feature, config) for feature in missing)
        raise KernelUnsuitable(f"kernel {release} cannot run guests, it lacks {names}", hint=_HINT)


def _describe(feature: Feature, config: Mapping[str, str] | None) -> str:
    if feature.module and (config is None or config.get(feature.symbol) == "m"):
        return f"the module {feature.module} ({feature.why})"
    return f"CONFIG_{feature.symbol} ({feature.why})"
