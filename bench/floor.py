"""The floor to compare with: the same kernel in the same QEMU, booted bare to an /init that says one word.

No disks, no agent, no Python in the guest's way: what is left is the kernel and the emulator.
"""

import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path
