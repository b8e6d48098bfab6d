"""Fetching the distribution's kernel package with apt, without installing it and without being root.

apt chooses the mirror, honours the host's proxies and checks signatures and digests. Debian and Ubuntu names.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from propolis.errors import KernelNotFound
from propolis.progress import Reporter
from propolis.spec import Architecture

STEP = "download kernel"
STALL_SECONDS = 90.0
"""A download that has not grown for this long is given up."""
_QUERY_SECONDS = 60.0
_POLL_SECONDS = 0.1
_WORDS_LIMIT = 1 << 20
_DEPTH = 3
_META = {
    Architecture.X86_64: ("linux-image-amd64", "linux-image-virtual"),
    Architecture.AARCH64: ("linux-image-arm64", "linux-image-virtual"),
}
"""The packages that depend on the current kernel: Debian's, Ubuntu's."""
_PART = re.compile(r"\blinux-(?:image|modules)-\d[\w.+~-]*")
"""Packages that a kernel is made of. Ubuntu has its modules in one of their own."""


class Package(NamedTuple):
    """One package that apt can fetch."""

    name: str
    version: str
    size: int


def available() -> bool:
    """Whether this host has apt."""
    return shutil.which("apt-get") is not None and shutil.which("apt-cache") is not None


def resolve(architecture: Architecture) -> list[Package]:
    """The packages of the distribution's current kernel for `architecture`.

    Raises:
        KernelNotFound: apt knows none; its lists may be missing.
    """
    parts: dict[str, Package] = {}
    names = [*_META[architecture]]
    for _ in range(_DEPTH):
        found = [stanza for stanza in map(_show, names) if stanza]
        for stanza in found:
            if _PART.fullmatch(stanza["Package"]):
                parts[stanza["Package"]] = _package(stanza)
        depends = " ".join(stanza.get("Depends", "") + " " + stanza.get("Pre-Depends", "") for stanza in found)
        names = [name for name in dict.fromkeys(_PART.findall(depends)) if name not in parts]
    if not parts:
        raise KernelNotFound(
            f"apt knows no kernel package for {architecture} ({' or '.join(_META[architecture])})",
            hint="run apt-get update (as root) and try again, or name a kernel by --kernel",
        )
    return list(parts.values())


def download(package: Package, directory: Path, reporter: Reporter) -> Path:
    """Fetch `package` into `directory`, which is empty and private; returns the file.

    Raises:
        KernelNotFound: apt could not fetch it; the message has apt's words.
    """
    command = ["apt-get", "--quiet", "--quiet", "download", f"{package.name}={package.version}"]
    reporter.begin(STEP, package.name, package.size)
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=_environment()
        )
        try:
            _watch(process, directory, package, reporter)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        output.seek(0)
        words = output.read(_WORDS_LIMIT).decode("utf-8", "replace")
    result = next(directory.glob("*.deb"), None)
    if process.returncode != 0 or result is None:
        errors = [line[2:].strip() for line in words.splitlines() if line.startswith("E:")]
        raise KernelNotFound(
            f"apt could not download {package.name} {package.version}: {errors[-1] if errors else 'no reason given'}",
            hint="check the network and run apt-get update (as root), or name a kernel by --kernel",
        )
    reporter.end(STEP, package.name)
    return result


def _watch(process: subprocess.Popen[bytes], directory: Path, package: Package, reporter: Reporter) -> None:
    done = 0
    grown_at = time.monotonic()
    while process.poll() is None:
        time.sleep(_POLL_SECONDS)
        size = _size(directory)
        if size > done:
            reporter.advance(STEP, package.name, size - done)
            done, grown_at = size, time.monotonic()
        elif time.monotonic() - grown_at > STALL_SECONDS:
            raise KernelNotFound(
                f"apt's download of {package.name} has stalled for {STALL_SECONDS:.0f} s",
                hint="check the network, or name a kernel by --kernel",
            )


def _size(directory: Path) -> int:
    """What has arrived; apt may keep a partial file in a directory below."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            try:
                total += Path(parent, name).stat().st_size
            except FileNotFoundError:  # renamed just now
                continue
    return total


def _show(name: str) -> dict[str, str] | None:
    """The candidate version's stanza of the package lists."""
    try:
        result = subprocess.run(
            ["apt-cache", "show", "--no-all-versions", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_QUERY_SECONDS,
            env=_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise KernelNotFound(f"apt-cache did not answer within {_QUERY_SECONDS:.0f} s") from error
    stanza: dict[str, str] = {}
    for line in result.stdout.decode("utf-8", "replace").partition("\n\n")[0].splitlines():
        key, separator, value = line.partition(": ")
        if separator and not line.startswith(" "):
            stanza[key] = value
    return stanza if "Package" in stanza and "Version" in stanza else None


def _package(stanza: dict[str, str]) -> Package:
    size = stanza.get("Size", "")
    return Package(stanza["Package"], stanza["Version"], int(size) if size.isdecimal() else 0)


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}
