"""Make a Windows to run tests in: a Wine prefix and the official Windows build of CPython, in the checkout's `.cache`.

Usage: windows.py (makes it ready), or windows.py COMMAND... (runs a program in it, as `python -m propolis doctor`).

The interpreter's DLL and extension modules come with the Windows wheel of panda3d; the standard library in Python is
that of the running interpreter, which has to be of the same version; `python.exe` is a stub. Everything is made beside
its place and renamed, and made again when what it is made from has changed.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import bootstrap

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "windows"
PREFIX = CACHE / "prefix"
PYTHON = CACHE / "python"
SYSTEM32 = PREFIX / "drive_c" / "windows" / "system32"
"""Where Windows looks for its own libraries; the stand-in of computecore.dll goes there."""
SITE_PACKAGES = PYTHON / "Lib" / "site-packages"

_VERSION = (3, 11)
_COMPILER = "x86_64-w64-mingw32-gcc"
_PYTHON_PIN = ROOT / "constraints" / "windows-python.txt"
_PINS = ROOT / "constraints" / "windows.txt"
_STUB = (
    "int Py_Main(int, wchar_t **);\nint wmain(int count, wchar_t **arguments) { return Py_Main(count, arguments); }\n"
)
_MANIFEST = """<assembly xmlns="urn:schemas-microsoft-com:asm.v1" manifestVersion="1.0">
<compatibility xmlns="urn:schemas-microsoft-com:compatibility.v1"><application>
<supportedOS Id="{8e0f7a12-bfb3-4fe8-b9a5-48fd50a15a9a}"/>
</application></compatibility></assembly>"""
"""That it knows Windows 10, as the official one says; without, it would be told an older version."""
_NO_PART_OF_THE_LIBRARY = ("site-packages", "dist-packages", "test", "lib-dynload", "__pycache__", "config-*")
_NT = r"HKLM\Software\Microsoft\Windows NT\CurrentVersion"
_REGISTRY = {
    "CurrentVersion": "10.0",  # 6.3 on a real one, but from here Wine takes what it presents itself as
    "CurrentBuild": "22631",
    "CurrentBuildNumber": "22631",
    "EditionID": "Professional",
    "InstallationType": "Client",
    "ProductName": "Windows 10 Pro",
}
"""A Windows 11; on its own Wine would be a Windows that is too old for us."""
_SERVICES = ("vmcompute", "hns")
"""What Windows has with Virtual Machine Platform. Only preflight looks for them."""
_STAMP = "made-of"


def main() -> int:
    """Make everything ready, then run what is named; returns the exit status."""
    prepare()
    if not sys.argv[1:]:
        return 0
    with session():
        return _relayed(command(*sys.argv[1:]))


def _relayed(arguments: list[str]) -> int:
    """Run a program and pass on what it says: Wine gives programs no output that is a file."""
    if sys.stdout.isatty():
        return subprocess.run(arguments, env=environment(), check=False).returncode
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(arguments, env=environment(), **streams) as process:
        assert process.stdout is not None
        while piece := process.stdout.read1():
            sys.stdout.buffer.write(piece)
            sys.stdout.flush()
    return process.returncode


def prepare() -> None:
    """Make prefix and interpreter if they are missing or stale. Does nothing, in milliseconds, when all is there.

    Raises:
        SystemExit: with what is missing and cannot be installed.
    """
    if sys.version_info[:2] != _VERSION:
        raise SystemExit(
            f"the Windows interpreter needs the standard library of Python {_VERSION[0]}.{_VERSION[1]}, and this is"
            f" {sys.version.split()[0]}; run it with PYTHON=python{_VERSION[0]}.{_VERSION[1]}"
        )
    missing = [name for name, file in bootstrap.WINDOWS_PACKAGES.items() if not Path(file).exists()]
    if missing and not bootstrap.install(missing):
        raise SystemExit(1)
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made(PREFIX, repr((_REGISTRY, _SERVICES)), _make_prefix)
        inputs = [Path(__file__), _PYTHON_PIN, _PINS, Path(os.__file__)]
        made(PYTHON, "".join(path.read_text(encoding="utf-8") for path in inputs), _make_python)
        _describe_propolis()


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment that a program of this Windows runs in: nothing of ours but what Wine and the project need."""
    kept = {name: os.environ[name] for name in ("HOME", "PATH", "LANG", "LC_ALL", "TERM") if name in os.environ}
    return kept | wine_environment(PREFIX) | {"PYTHONPYCACHEPREFIX": "C:\\pycache"} | (extra or {})


def wine_environment(prefix: Path) -> dict[str, str]:
    """What tells Wine to use `prefix`, and to say and show nothing of its own."""
    return {
        "WINEPREFIX": str(prefix),
        "WINEARCH": "win64",
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "mscoree,mshtml=;winemenubuilder.exe=d",
    }


def command(program: str, *arguments: str) -> list[str]:
    """The command line that runs `program` there; `python` is the interpreter."""
    return ["wine", str(PYTHON / "python.exe") if program == "python" else program, *arguments]


def windows_path(path: Path) -> str:
    """What a path of this host is called there, where drive Z: shows the host's root."""
    return "Z:" + str(path.absolute()).replace("/", "\\")


@contextlib.contextmanager
def session() -> Iterator[None]:
    """Keep one Wine server for the duration, so that only the first program waits for it; end it and what it runs."""
    _wineserver(PREFIX, "--persistent=60")
    try:
        yield
    finally:
        _wineserver(PREFIX, "--kill")
        _wineserver(PREFIX, "--wait")


def _wineserver(prefix: Path, option: str) -> None:
    surroundings = os.environ | wine_environment(prefix)
    subprocess.run(["wineserver", option], env=surroundings, stderr=subprocess.DEVNULL, timeout=60, check=False)


def made(target: Path, inputs: str, make: Callable[[Path], None]) -> None:
    """Have the directory `target` filled by `make`, unless it already was, from the same `inputs`."""
    wanted = hashlib.sha256(inputs.encode()).hexdigest()
    stamp = target / _STAMP
    if stamp.exists() and stamp.read_text(encoding="ascii") == wanted:
        return
    print(f"Making {target.relative_to(ROOT)} ...", flush=True)
    staged = target.with_name(f"{target.name}.unfinished")
    for leftover in (staged, target):
        shutil.rmtree(leftover, ignore_errors=True)
    staged.mkdir()
    make(staged)
    (staged / _STAMP).write_text(wanted, encoding="ascii")
    staged.rename(target)


def _make_prefix(prefix: Path) -> None:
    surroundings = os.environ | wine_environment(prefix)
    surroundings.pop("DISPLAY", None)
    _run(["wine", "wineboot", "--init"], env=surroundings)
    for name, value in _REGISTRY.items():
        _run(["wine", "reg", "add", _NT, "/v", name, "/d", value, "/f"], env=surroundings)
    for name in _SERVICES:
        service = ["binPath=", rf"C:\windows\system32\{name}.exe", "start=", "demand"]
        _run(["wine", "sc", "create", name, *service], env=surroundings)
    _wineserver(prefix, "--kill")
    _wineserver(prefix, "--wait")


def _make_python(home: Path) -> None:
    downloads = CACHE / "downloads"
    _run([*_pip("download"), "--require-hashes", "-r", _PYTHON_PIN, "--dest", downloads])
    (wheel,) = downloads.glob("panda3d-*-win_amd64.whl")
    version = "".join(map(str, _VERSION))
    (home / "DLLs").mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for name in map(PurePosixPath, archive.namelist()):
            if name.parent.name == "deploy_libs" and name.suffix in (".pyd", ".dll"):
                beside = name.stem.lower() in (f"python{version}", "vcruntime140")
                (home / (name.name if beside else f"DLLs/{name.name}")).write_bytes(archive.read(str(name)))
    for unused in (home / "DLLs").glob("api-ms-win-*"):  # Wine has its own
        unused.unlink()
    library = sysconfig.get_path("stdlib")
    shutil.copytree(library, home / "Lib", ignore=shutil.ignore_patterns(*_NO_PART_OF_THE_LIBRARY))
    (home / "stub.c").write_text("#include <wchar.h>\n" + _STUB)
    (home / "stub.manifest").write_text(_MANIFEST)
    (home / "stub.rc").write_text('1 24 "stub.manifest"\n')
    _run([_COMPILER.replace("gcc", "windres"), "stub.rc", "stub-rc.o"], cwd=home)
    library_of_python = home / f"python{version}.dll"
    parts = ["stub.c", "stub-rc.o", library_of_python]
    _run([_COMPILER, "-O2", "-Wall", "-Werror", "-municode", "-o", "python.exe", *parts], cwd=home)
    _make_stable_abi(home, library_of_python)
    # what Rust's programs ask for random bytes; Wine has it from version 9 on
    _make_forwarding(home, "bcryptprimitives", {"ProcessPrng": "ADVAPI32.SystemFunction036"})
    target = [*_pip("install"), "--require-hashes", "--no-deps", "--no-compile", "-r", _PINS]
    _run([*target, "--target", home / "Lib" / "site-packages"])


def _make_stable_abi(home: Path, library: Path) -> None:
    """Make python3.dll, which wheels for the stable ABI are linked to: each name is forwarded to the versioned DLL."""
    listing = _run(["x86_64-w64-mingw32-objdump", "-p", library])
    table = listing.partition("[Ordinal/Name Pointer] Table")[2].partition("\n\n")[0]
    names = [line.split()[-1] for line in table.splitlines() if line.strip().startswith("[")]
    _make_forwarding(home, "python3", {name: f"{library.stem}.{name}" for name in names})


def _make_forwarding(home: Path, name: str, forwards: Mapping[str, str]) -> None:
    """Make a DLL of which each name stands for one of another DLL."""
    listed = "".join(f"  {own} = {other}\n" for own, other in forwards.items())
    (home / f"{name}.def").write_text(f"LIBRARY {name}\nEXPORTS\n{listed}")
    (home / "empty.c").write_text("int unused;\n")
    _run([_COMPILER, "-shared", "-nostdlib", "-Wl,-e,0", "-o", f"{name}.dll", "empty.c", f"{name}.def"], cwd=home)


def _pip(verb: str) -> list[str]:
    tag = "".join(map(str, _VERSION))
    wheels = ["--platform", "win_amd64", "--python-version", tag, "--implementation", "cp", "--only-binary", ":all:"]
    abis = ["--abi", f"cp{tag}", "--abi", "abi3", "--abi", "none"]
    pip = [str(bootstrap.VENV / "bin" / "python"), "-m", "pip", verb, "--quiet", "--disable-pip-version-check"]
    return [*pip, *wheels, *abis]


def _describe_propolis() -> None:
    """The project runs from the checkout; its metadata (version, entry points) are those of the environment here."""
    found = list((bootstrap.VENV / "lib").glob("python*/site-packages/propolis-*.dist-info"))
    for source in found:
        target = SITE_PACKAGES / source.name
        target.mkdir(exist_ok=True)
        for name in ("METADATA", "entry_points.txt"):
            shutil.copyfile(source / name, target / name)
    sources = [windows_path(ROOT / place) for place in ("src", "kernel/src")]
    (SITE_PACKAGES / "propolis.pth").write_text("\n".join([*sources, ""]), encoding="utf-8")


def _run(arguments: Sequence[str | Path], **options: object) -> str:
    done = subprocess.run(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False, **options
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, arguments))} failed:\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
