"""Interrupt `propolis` as the Ctrl-C key does, from a program beside it on the same console of Windows.

Usage: interrupt.py TIMES PROPOLIS_ARGUMENT... interrupts it that often, each time after it has printed a line; passes
on what it prints, then tells how it exited.
"""

import os
import signal
import subprocess
import sys


def main():
    """Start it, interrupt it each time that it has printed a line, and tell of its end."""
    times, *arguments = sys.argv[1:]
    signal.signal(signal.SIGINT, lambda *_: None)  # it is told to every program of the console, so to us
    stdin = None if "-it" in arguments else subprocess.DEVNULL
    with subprocess.Popen(
        [sys.executable, "-m", "propolis", *arguments], stdin=stdin, stdout=subprocess.PIPE
    ) as process:
        for _ in range(int(times)):
            _tell(process.stdout.readline())
            os.kill(0, signal.CTRL_C_EVENT)
        _tell(process.stdout.read())
    _tell(f"exited:{process.returncode}\n".encode())


def _tell(words):
    sys.stdout.buffer.write(words)
    sys.stdout.flush()


main()
