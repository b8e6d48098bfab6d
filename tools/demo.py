"""What `make demo` shows: an image made from the distribution's busybox, booted, with the time each step took."""

import os
import subprocess
import sys
import time
from pathlib import Path

import images

ROOT = Path(__file__).resolve().parent.parent
PROPOLIS = Path(sys.executable).with_name("propolis")
SCRIPT = (
    'echo "Hello from $(hostname), a machine of its own."; '
    'echo "kernel:  $(uname -srm)"; '
    'echo "root:    $(grep " / " /proc/mounts | cut -d" " -f1,3)"; '
    "echo \"memory:  $(grep MemTotal /proc/meminfo | tr -s ' ' | cut -d' ' -f2-)\"; "
    'echo "to standard error" >&2; exit 7'
)


def main() -> int:
    """Make the image, run it twice (everything is cached the second time), say what happened."""
    before = time.monotonic()
    image = images.busybox()
    say(f"an OCI image layout made from {images.BUSYBOX}: {os.path.relpath(image.split(':')[1], ROOT)}", before)
    for attempt in ("first run (fetches a kernel, converts the layer)", "second run (all of that is cached)"):
        command = ["run", "--rm", "--timing", image, "sh", "-c", SCRIPT]
        print(f"\n== {attempt}\n$ propolis {' '.join(command[:4])} sh -c '...'", flush=True)
        before = time.monotonic()
        status = subprocess.run([PROPOLIS, *command], check=False).returncode
        say(f"exit code {status}, as the workload gave it" if status == 7 else f"FAILED with {status}", before)
        if status != 7:
            return 1
    return 0


def say(text: str, since: float) -> None:
    """One line with the seconds it took."""
    print(f"== {time.monotonic() - since:6.2f} s  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
