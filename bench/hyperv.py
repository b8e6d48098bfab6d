"""`make bench-windows`: where a start over the Hyper-V backend spends its time, beside the QEMU backend's.

HCS is the stand-in (tests/hcs), so what its calls take is our share and QEMU's start, not what Windows takes. On Linux,
with the stand-in as a library; and, where `make test-windows` has made one, in Windows' Python under Wine, with the
stand-in as a DLL. Medians; the backends are run in turn; read them with the load in mind.
"""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import images
import windows
from hcs.bridge import Bridge
from hcs.build import build_dll, build_library

ROUNDS = 7
SITE = Path(__file__).resolve().parent.parent / "tests" / "windows" / "site"
PROGRAM = Path(__file__).with_name("steps.py")


def main() -> None:
    """Measure and print, one table a system."""
    image = images.busybox()
    with tempfile.TemporaryDirectory(prefix="hv") as scratch:
        directory = Path(scratch)
        with linux(directory) as environment:
            on_linux = [sys.executable, str(PROGRAM), image]
            table("Linux, the stand-in as a library", on_linux, environment, ("hyperv", "qemu"))
        if not (windows.PYTHON / "python.exe").exists() or shutil.which("wine") is None:
            print("\nno Windows here: make test-windows makes one")
            return
        with under_wine(directory) as environment:
            there = image.replace(str(images.CACHE), windows.windows_path(images.CACHE))
            under = windows.command("python", windows.windows_path(PROGRAM), there.replace("/", "\\"))
            table("Windows' Python under Wine, the stand-in as a DLL", under, environment, ("hyperv",))


@contextlib.contextmanager
def linux(directory: Path) -> Iterator[dict[str, str]]:
    """The environment of a process that finds the stand-in on Linux."""
    with service(directory / "linux") as (there, bridge):
        chosen = {
            "PROPOLIS_HCS_BRIDGE": str(bridge.port),
            "PROPOLIS_HVSOCKETS": str(there / "hvsockets"),
            "PROPOLIS_DATA": str(there / "data"),
            "STAND_IN": str(build_library(there)),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        yield os.environ | chosen


@contextlib.contextmanager
def under_wine(directory: Path) -> Iterator[dict[str, str]]:
    """The environment of a process that finds the stand-in in System32."""
    library = windows.SYSTEM32 / "computecore.dll"
    with windows.session(), service(directory / "windows", windows.PREFIX) as (there, bridge):
        shutil.copyfile(build_dll(there), library)
        places = {name: windows.windows_path(there / name.lower()) for name in ("HVSOCKETS", "DATA", "CACHE")}
        chosen = {f"PROPOLIS_{name}": place for name, place in places.items()}
        try:
            yield windows.environment(
                chosen | {"PROPOLIS_HCS_BRIDGE": str(bridge.port), "PYTHONPATH": windows.windows_path(SITE)}
            )
        finally:
            library.unlink()


@contextlib.contextmanager
def service(there: Path, wineprefix: Path | None = None) -> Iterator[tuple[Path, Bridge]]:
    """A bridge with directories of its own."""
    for name in ("hvsockets", "machines"):
        (there / name).mkdir(parents=True)
    with Bridge(there / "machines", hvsockets=there / "hvsockets", wineprefix=wineprefix) as bridge:
        yield there, bridge


def table(heading: str, command: list[str], environment: dict[str, str], backends: tuple[str, ...]) -> None:
    """Print the median of each step, a column a backend; the runs of one round follow each other."""
    taken: dict[str, list[dict[str, float]]] = {backend: [] for backend in backends}
    for number in range(ROUNDS + 1):  # the first makes what is cached
        for backend in backends:
            done = subprocess.run([*command, backend], env=environment, stdout=subprocess.PIPE, check=True, timeout=300)
            taken[backend] += [json.loads(done.stdout)] if number else []
    print(f"\n{heading}; ms, medians of {ROUNDS}, load {os.getloadavg()[0]:.1f}")
    print(f"{'':<58}" + "".join(f"{backend:>9}" for backend in backends))
    for step in dict.fromkeys(name for backend in backends for name in taken[backend][0]):
        print(f"{step:<58}" + "".join(median([run.get(step) for run in taken[backend]]) for backend in backends))


def median(seconds: list[float | None]) -> str:
    """In ms; nothing for a step that a backend does not have."""
    found = [each for each in seconds if each is not None]
    return f"{1000 * statistics.median(found):9.1f}" if found else f"{'':9}"


if __name__ == "__main__":
    main()
