"""Which QEMU processes of this host belong to machines below a directory; what tests ask when nothing may be left."""

from pathlib import Path


def vmms_below(directory: Path) -> list[int]:
    """Their pids."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:
            continue
        if b"qemu-system" in command and str(directory).encode() in command:
            found.append(int(entry.parent.name))
    return found
