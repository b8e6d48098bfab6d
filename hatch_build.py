"""Build hook: cross-compiles the guest's init for every architecture into `src/propolis/guest/_bin`.

`SOURCE` there holds the hash of sources, flags and compiler; while it fits, nothing is built and ziglang is not asked
for, so that whoever got the binaries otherwise needs no compiler.
"""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
SOURCES = ROOT / "guest"
BINARIES = ROOT / "src" / "propolis" / "guest" / "_bin"
COMPILER = "ziglang==0.17.1"
ARCHITECTURES = ("x86_64", "aarch64")
# -Os would link memcpy and memset as loops over bytes, which software emulation runs at a tenth of the speed
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-static", "-s", "-Wall", "-Wextra", "-Werror")


def sources() -> list[Path]:
    """Return the C files in the order in which they are given to the compiler."""
    return sorted(SOURCES.glob("*.c"))


def fingerprint() -> str:
    """Return the hash of everything that the binaries depend on."""
    digest = hashlib.sha256(repr((COMPILER, ARCHITECTURES, FLAGS)).encode())
    for path in (*sources(), *sorted(SOURCES.glob("*.h"))):
        text = path.read_bytes()
        digest.update(f"{path.name} {len(text)}\n".encode() + text)
    return digest.hexdigest()


def is_fresh() -> bool:
    """Whether all binaries are there and were made from these sources."""
    stamp = BINARIES / "SOURCE"
    made = all((BINARIES / f"init-{architecture}").is_file() for architecture in ARCHITECTURES)
    return made and stamp.is_file() and stamp.read_text(encoding="ascii").strip() == fingerprint()


def compile_all(target: Path) -> None:
    """Compile every architecture into `target`; each file appears whole or not at all, SOURCE last."""
    target.mkdir(parents=True, exist_ok=True)
    (target / "SOURCE").unlink(missing_ok=True)
    for architecture in ARCHITECTURES:
        unfinished = target / f".init-{architecture}.tmp"
        command = [
            sys.executable,
            "-m",
            "ziglang",
            "cc",
            "-target",
            f"{architecture}-linux-musl",
            *FLAGS,
            "-o",
            str(unfinished),
        ]
        subprocess.run([*command, *(path.name for path in sources())], cwd=SOURCES, check=True)
        unfinished.replace(target / f"init-{architecture}")
    (target / "SOURCE").write_text(fingerprint() + "\n", encoding="ascii")


class GuestInitHook(BuildHookInterface):
    """The hook as hatchling calls it."""

    def dependencies(self) -> list[str]:
        """Ask for the compiler only when it is needed."""
        return [] if is_fresh() else [COMPILER]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile what is missing or stale; the wheel's `artifacts` setting carries it."""
        if not is_fresh():
            compile_all(BINARIES)


if __name__ == "__main__":
    compile_all(Path(sys.argv[1]) if len(sys.argv) > 1 else BINARIES)
