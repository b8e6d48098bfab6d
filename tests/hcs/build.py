"""Builds the stand-in for HCS: `computecore.dll` with mingw-w64, and the same source as a library for this host.

`build.py DIRECTORY [dll] [library]` from the command line; the functions for tests.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "src"
CROSS_COMPILER = "x86_64-w64-mingw32-gcc"
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers")
WINDOWS_FLAGS = ("-DUNICODE", "-DWIN32_LEAN_AND_MEAN", "-D_WIN32_WINNT=0x0A00")
POSIX_FLAGS = ("-fPIC", "-pthread")

NOT_ON_WINDOWS_10 = ("HcsWaitForComputeSystemExit", "HcsGrantVmGroupAccess", "HcsRevokeVmGroupAccess")
"""Exports that Windows 10 does not have, as far as they come with Windows 11."""


def has_cross_compiler() -> bool:
    """Whether the DLL can be built here."""
    return shutil.which(CROSS_COMPILER) is not None


def build_dll(directory: Path, *, without: Sequence[str] = ()) -> Path:
    """Build `computecore.dll` in `directory`; one `without` some exports goes to a directory of that name below it."""
    inputs = b"".join(path.read_bytes() for path in (Path(__file__), *sorted(SOURCE.iterdir())))
    objects = directory / f"objects-{hashlib.sha256(inputs).hexdigest()[:12]}"
    if not objects.exists():
        staged = Path(tempfile.mkdtemp(dir=directory))
        subprocess.run([CROSS_COMPILER, *FLAGS, *WINDOWS_FLAGS, "-c", *_sources("windows")], cwd=staged, check=True)
        staged.rename(objects)
    folder = directory / "-".join(("without", *without)) if without else directory
    folder.mkdir(exist_ok=True)
    target, definition = folder / "computecore.dll", folder / "computecore.def"
    definition.write_text("EXPORTS\n" + "".join(f"    {name}\n" for name in exports() if name not in without))
    command = [CROSS_COMPILER, "-shared", "-static-libgcc", "-s", "-o", target, definition]
    subprocess.run([*command, *sorted(objects.glob("*.o")), "-lws2_32"], check=True)
    return target


def build_library(directory: Path) -> Path:
    """Build `libcomputecore.so` in `directory`."""
    target = directory / "libcomputecore.so"
    script = directory / "computecore.map"
    script.write_text("{ global: " + "; ".join([*exports(), "LocalFree"]) + "; local: *; };\n")
    command = [
        "cc",
        "-shared",
        *FLAGS,
        *POSIX_FLAGS,
        f"-Wl,--version-script={script}",
        "-o",
        target,
        *_sources("linux"),
    ]
    subprocess.run(command, check=True)
    return target


def exports() -> list[str]:
    """The names that the DLL exports: those that the sources define with WINAPI."""
    names = set()
    for path in _sources("windows"):
        for line in path.read_text().splitlines():
            head, separator, rest = line.partition("WINAPI ")
            if separator and head[:1].isalpha() and rest.startswith("Hcs"):
                names.add(rest.partition("(")[0])
    return sorted(names)


def _sources(platform: str) -> list[Path]:
    other = {"windows": "linux", "linux": "windows"}[platform]
    return sorted(path for path in SOURCE.glob("*.c") if path.stem != f"platform_{other}")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[2:] or ["dll", "library"]
    for kind in wanted:
        print({"dll": build_dll, "library": build_library}[kind](folder))  # noqa: T201
