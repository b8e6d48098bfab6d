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
)


def build(architecture: Architecture, *, layers: int) -> str:
    """The command line of a guest whose first `layers` disks are image layers and whose next one is its own."""
    return " ".join((f"console={_CONSOLE[architecture]}", *_OPTIONS, f"propolis.layers={layers}"))
