"""Run `propolis` with pipes of Windows for its output, and tell what came out of them as JSON, once they have ended.

Usage: captured.py PROPOLIS_ARGUMENT... A process under Wine holds its host's standard error for as long as it lives,
whatever becomes of its own; a pipe of Windows ends when the programs let go of it.
"""

import json
import subprocess
import sys

done = subprocess.run(
    [sys.executable, "-m", "propolis", *sys.argv[1:]], stdin=subprocess.DEVNULL, capture_output=True, check=False
)
json.dump([done.returncode, done.stdout.decode(), done.stderr.decode()], sys.stdout)
