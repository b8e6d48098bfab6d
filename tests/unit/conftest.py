"""Which unit tests are of modules that a system does not have."""

import sys

collect_ignore = (
    ["host/test_directory_sink.py", "hypervisor/kvm"] if sys.platform == "win32" else []
)
