"""The kernel command line that guests boot with. Pure.

Each word is needed or measurably saves boot time; nothing secret may be on it, as the workload can read /proc/cmdline.
"""

from propolis.spec import Architecture

_CONSOLES = {Architecture.X86_64: "ttyS0", Architecture.AARCH64: "ttyAMA0"}


def kernel_command_line(architecture: Architecture, *, layers: int) -> str:
    """The command line for a machine with `layers` read-only disks before its writable one."""
    words = [
        f"console={_CONSOLES[architecture]}",
        "quiet",
        "panic=-1",  # reset at once, which ends the machine: a panic must not look like a slow boot
        f"propolis.layers={layers}",
    ]
    return " ".join(words)
