"""The guest kernel's command line. Pure.

Follows the kernel's Documentation/admin-guide/kernel-parameters.rst. An option stands here because a guest needs it, or
because it was measured to make the boot of a stock kernel shorter under software emulation. Nothing secret may be on
it, as the workload can read /proc/cmdline.
"""

from propolis.spec import Architecture

_CONSOLE = {Architecture.X86_64: "ttyS0", Architecture.AARCH64: "ttyAMA0"}

_OPTIONS = (
    # the console is for last words, not for a boot's 300 lines; warnings are still shown
    "quiet",
    # a kernel that panicked is no use: reset at once, which ends the machine
    "panic=-1",
    # testing the ciphers of a stock kernel takes more than half of all instructions until init runs
    "cryptomgr.notests",
    # our init looks for disks, on the one target that has any: the kernel would ask 256
    "scsi_mod.scan=manual",
)

_HYPERV_OPTIONS = (
    # there is room for one way from a guest to its host; where virtio's is built in, it would be there before Hyper-V's
    "initcall_blacklist=virtio_vsock_init",
    # the host's time after it has slept: its samples count even when it does not ask for them to be taken over
    "hv_utils.timesync_implicit=1",
)


def build(architecture: Architecture, *, layers: int, hyperv: bool = False) -> str:
    """The command line of a guest whose first `layers` disks are image layers and whose next one is its own."""
    options = (*_OPTIONS, *(_HYPERV_OPTIONS if hyperv else ()))
    return " ".join((f"console={_CONSOLE[architecture]}", *options, f"propolis.layers={layers}"))
