"""Which processes belong to machines, or to a command of a test; what is asked when nothing may be left."""

from pathlib import Path


def vmms_below(directory: Path) -> list[int]:
    """Pids of the QEMUs of machines below a directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:
            continue
        if b"qemu-system" in command and str(directory).encode() in command:
            found.append(int(entry.parent.name))
    return found


def marked(word: str) -> list[int]:
    """Pids of processes with `word` in their environment, as a command and all that it starts has it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = entry.read_bytes()
        except OSError:
            continue
        if word.encode() in environment:
            found.append(int(entry.parent.name))
    return found
