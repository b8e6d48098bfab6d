"""Parts of the guest's C program, compiled for this host with checks for undefined behaviour."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    "-std=c11",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Og",
    "-g",
    "-static",
    "-fsanitize=undefined",
    "-fno-sanitize-recover=all",
)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Compile a test program with some of the guest's sources; returns its path."""
    pytest.importorskip("ziglang", reason="compiling needs the package ziglang")
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("the guest's C code runs on Linux only, x86-64 or arm64")
    folder = tmp_path_factory.mktemp("guest")

    def build(name, *sources, defines=()):
        target = folder / name
        files = [str(ROOT / "tests/guest" / f"{name}.c"), *(str(ROOT / "guest" / source) for source in sources)]
        command = [
            sys.executable,
            "-m",
            "ziglang",
            "cc",
            "-target",
            f"{platform.machine()}-linux-musl",
            *FLAGS,
            *(f"-D{define}" for define in defines),
            f"-I{ROOT / 'guest'}",
        ]
        subprocess.run([*command, "-o", str(target), *files], check=True)
        return target

    return build
