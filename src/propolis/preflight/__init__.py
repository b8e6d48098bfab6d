"""What works on this host, why not, and what to do about it. The one place that selects what each system is asked."""

import sys

from propolis.preflight.checks import Check

if sys.platform == "win32":
    from propolis.preflight.hyperv_windows import examine as _examine
else:

    def _examine() -> list[Check]:
        return []


def platform_checks() -> list[Check]:
    """What this system itself must offer before a hypervisor of its own can work; nothing where that is one probe."""
    return _examine()
