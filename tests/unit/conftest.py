"""Which unit tests are of modules that a system does not have."""

import sys

_POSIX = [
    "image/daemon/test_source.py",
    "host/test_directory_sink.py",
    "hypervisor/kvm",
    "hypervisor/qemu/test_process.py",
]
_WINDOWS = [
    "cli/test_terminal_windows.py",
    "host/test_windows.py",
    "host/test_windows_pipe.py",
    "host/test_windows_security.py",
    "image/daemon/test_pipe.py",
    "preflight/test_hyperv_windows.py",
]
collect_ignore = _POSIX if sys.platform == "win32" else _WINDOWS
