"""What a workload may do in its machine: capabilities, limits, kernel parameters, in docker's spellings. Pure.

The machine is the wall; this is what keeps a workload from what its own guest's root could do. Follows capabilities(7),
getrlimit(2) and what docker grants by default.
"""

import re
from collections.abc import Iterable, Mapping

from propolis.errors import InvalidArgument

CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"),
    *("SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
    *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
    *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF"),
    "CHECKPOINT_RESTORE",
)
"""Names by number."""
DEFAULT = frozenset(
    (
        *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE"),
        *("NET_RAW", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP"),
    )
)
"""What docker leaves to a container's root."""
RESOURCES = {
    name: number
    for number, name in enumerate(
        (
            *("cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock"),
            *("as", "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime"),
        )
    )
}
"""Limits by name, to Linux' numbers."""
_MOST = 10**17
_LIMIT = re.compile(r"(?P<soft>-1|unlimited|\d{1,17})(?::(?P<hard>-1|unlimited|\d{1,17}))?")
_SYSCTL = re.compile(r"[a-z0-9_]+([./][A-Za-z0-9_-]+)+")


def capability_mask(*, privileged: bool = False, add: Iterable[str] = (), drop: Iterable[str] = ()) -> int | None:
    """The bounding set as a mask of Linux' numbers; None for all. `ALL` may be added and dropped.

    Raises:
        InvalidArgument: a name that no capability has.
    """
    added, dropped = [_name(name) for name in add], [_name(name) for name in drop]
    if privileged and not dropped:
        return None
    kept = set(CAPABILITIES) if privileged or "ALL" in added else set(DEFAULT)
    if "ALL" in dropped:
        kept = set()
    kept = (kept - set(dropped)) | (set(added) - {"ALL"})
    return sum(1 << CAPABILITIES.index(name) for name in kept)


def _name(text: str) -> str:
    name = text.upper().removeprefix("CAP_")
    if name != "ALL" and name not in CAPABILITIES:
        raise InvalidArgument(
            f"there is no capability {text[:40]!r}", hint="names are as in capabilities(7): NET_ADMIN"
        )
    return name


def rlimits(given: Mapping[str, int | str | tuple[int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Limits by name to Linux' number, soft and hard limit; -1 is none. Text is as `docker run --ulimit` has it.

    Raises:
        InvalidArgument: an unknown name, or no limit.
    """
    return tuple(_limit(name, value) for name, value in given.items())


def _limit(name: str, value: int | str | tuple[int, int]) -> tuple[int, int, int]:
    if name not in RESOURCES:
        raise InvalidArgument(f"there is no limit {name[:40]!r}", hint=f"there are {', '.join(RESOURCES)}")
    if isinstance(value, str):
        match = _LIMIT.fullmatch(value)
        if match is None:
            raise InvalidArgument(f"{name}={value[:40]!r} is no limit", hint=f"write {name}=SOFT or {name}=SOFT:HARD")
        soft, hard = (_number(text or match["soft"]) for text in (match["soft"], match["hard"]))
    else:
        soft, hard = value if isinstance(value, tuple) else (value, value)
    if not (-1 <= soft < _MOST and -1 <= hard < _MOST) or (hard >= 0 and not 0 <= soft <= hard):
        raise InvalidArgument(f"{name}={soft}:{hard} is no limit", hint="the soft limit is at most the hard one")
    return RESOURCES[name], soft, hard


def _number(text: str) -> int:
    return -1 if text == "unlimited" else int(text)


def sysctls(given: Mapping[str, str | int]) -> tuple[str, ...]:
    """Kernel parameters as `name=value`.

    Raises:
        InvalidArgument: a name or value that cannot be one.
    """
    for name, value in given.items():
        if not _SYSCTL.fullmatch(name) or ".." in name or len(name) > 200:
            raise InvalidArgument(f"{name[:60]!r} is no kernel parameter", hint="write it like net.core.somaxconn=1024")
        if "\0" in str(value) or "\n" in str(value):
            raise InvalidArgument(f"the value of {name} has a NUL or a line's end")
    return tuple(f"{name}={value}" for name, value in given.items())
