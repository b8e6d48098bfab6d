"""What a guest needs of its kernel, as data, and whether a given kernel has it.

Pure: a kernel configuration (`config-<release>`, Kconfig's output) and module names in, verdict out. Modules are named
as the kernel names them.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import StrEnum
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

HYPERV = (
    Feature("HYPERV", "the bus of every device of Hyper-V", "hv_vmbus"),
    Feature("HYPERV_STORAGE", "the controllers of the layer disks", "hv_storvsc"),
    Feature("HYPERV_VSOCKETS", "the channel between the host and the guest's agent", "hv_sock"),
)
"""What is loaded only where there is a VMBus."""
HYPERV_EXTRAS = ("hv_utils", "hv_balloon")
"""The host's time, and memory given back to it: loaded there too, but a guest runs without."""
HYPERV_SHARES = (
    Feature("NET_9P_FD", "directories shared with the host", "9pnet_fd"),
    Feature("9P_FS", "directories shared with the host", "9p"),
)
"""What is loaded instead of `SHARES` there."""


class Ability(StrEnum):
    """What not every kernel can do for a guest, though it can run one."""

    SHARES = "shares"
    HYPERV = "hyperv"
    HYPERV_SHARES = "hyperv-shares"


_ABILITIES = {
    Ability.SHARES: ("cannot show a guest directories of this host", SHARES),
    Ability.HYPERV: ("cannot run guests of Hyper-V", HYPERV),
    Ability.HYPERV_SHARES: ("cannot show a guest of Hyper-V directories of this host", HYPERV_SHARES),
}


class ModuleList(NamedTuple):
    """Modules that our init loads at one time, with what they depend on and is not loaded yet."""

    file: str
    """Its name in the initramfs below /modules."""
    modules: tuple[str, ...]
    after: tuple[str, ...] = ()
    """The lists that have been loaded before, by their files."""


LISTS = (
    ModuleList("load", MODULES),
    ModuleList("load.shares", tuple(feature.module for feature in SHARES), ("load",)),
    ModuleList("load.hyperv", (*(feature.module for feature in HYPERV), *HYPERV_EXTRAS), ("load",)),
    ModuleList("load.hyperv-shares", tuple(feature.module for feature in HYPERV_SHARES), ("load", "load.hyperv")),
)
"""Each costs boot time only where it is loaded."""
WANTED = tuple(dict.fromkeys(name for listed in LISTS for name in listed.modules))
"""All of them, in load order."""


def abilities(config: Mapping[str, str] | None, available: Callable[[str], bool]) -> frozenset[Ability]:
    """What else a kernel can do; without its configuration, modules decide. Arguments as for `check`."""
    found = {ability for ability, (_, needs) in _ABILITIES.items() if not _missing(needs, config, available)}
    if config is not None and config.get("VIRTIO_VSOCKETS") == "y" and config.get("KALLSYMS") != "y":
        # it takes the place of Hyper-V's sockets, and only a kernel that knows its symbols can be told not to
        found -= {Ability.HYPERV, Ability.HYPERV_SHARES}
    return frozenset(found)


def demand(release: str, able: Collection[Ability], *, hyperv: bool, shares: bool) -> None:
    """Check that a kernel with the abilities `able` will do.

    Args:
        release: names the kernel in the message.
        able: from `abilities`.
        hyperv: the guest's devices hang on a VMBus.
        shares: it shall see directories of the host.

    Raises:
        KernelUnsuitable: saying what it cannot do and lacks.
    """
    needed = [Ability.HYPERV] if hyperv else []
    if shares:
        needed.append(Ability.HYPERV_SHARES if hyperv else Ability.SHARES)
    for ability in needed:
        if ability not in able:
            verdict, needs = _ABILITIES[ability]
            lacks = ", ".join(f"CONFIG_{feature.symbol}" for feature in needs)
            extra = ", or CONFIG_KALLSYMS beside CONFIG_VIRTIO_VSOCKETS=y" if ability is Ability.HYPERV else ""
            raise KernelUnsuitable(f"kernel {release} {verdict}: it lacks one of {lacks}{extra}", hint=_HINT)


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
    missing += _missing(MODULAR, config, available)
    if missing:
        names = ", ".join(_describe(feature, config) for feature in missing)
        raise KernelUnsuitable(f"kernel {release} cannot run guests, it lacks {names}", hint=_HINT)


def _missing(
    needs: Iterable[Feature], config: Mapping[str, str] | None, available: Callable[[str], bool]
) -> list[Feature]:
    """Those that are neither built in nor modules that are there."""
    values = [(feature, "m" if config is None else config.get(feature.symbol)) for feature in needs]
    return [feature for feature, value in values if value != "y" and (value != "m" or not available(feature.module))]


def _describe(feature: Feature, config: Mapping[str, str] | None) -> str:
    if feature.module and (config is None or config.get(feature.symbol) == "m"):
        return f"the module {feature.module} ({feature.why})"
    return f"CONFIG_{feature.symbol} ({feature.why})"
