"""The operating-system seam: the one place that selects an implementation of `host.base.Host`."""

import sys

if sys.platform == "win32":
    from propolis.host import windows as _system
elif sys.platform == "darwin":
    from propolis.host import darwin as _system
else:
    from propolis.host import linux as _system

from propolis.host.base import Host

system: Host = _system
"""This machine's operating system."""

__all__ = ["Host", "system"]
