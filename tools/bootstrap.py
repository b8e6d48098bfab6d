"""Make a fresh machine ready: missing Debian packages, `.venv` with pinned dependencies, the project itself.

Usage: bootstrap.py run|test|windows. Standard library only; it runs before anything is installed. Does nothing, in a
few milliseconds, when everything is there.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "ready"
REQUIREMENTS = ROOT / "constraints" / "dev.txt"
OLDEST_PYTHON = (3, 11)

RUN_PACKAGES = {
    "qemu-system-x86": "/usr/bin/qemu-system-x86_64",
    "busybox-static": "/bin/busybox",
    "dpkg": "/usr/bin/dpkg-deb",
}
TEST_PACKAGES = RUN_PACKAGES | {
    "7zip": "/usr/bin/7zz",
    "attr": "/usr/bin/getfattr",
    "clang": "/usr/bin/clang",
    "cpio": "/usr/bin/cpio",
    "cryptsetup-bin": "/sbin/veritysetup",
    "diod": "/usr/sbin/diod",
    "docker-registry": "/usr/bin/docker-registry",
    "e2fsprogs": "/sbin/e2fsck",
    "erofs-utils": "/usr/bin/mkfs.erofs",
    "gcc": "/usr/bin/gcc",
    "gcc-mingw-w64-x86-64-posix": "/usr/bin/x86_64-w64-mingw32-gcc-posix",
    "kmod": "/sbin/modprobe",
    "libclang-rt-14-dev": "/usr/lib/llvm-14/lib/clang/14.0.6/lib/linux/libclang_rt.fuzzer-x86_64.a",
    "libcap2-bin": "/sbin/setcap",
    "libvhdi-utils": "/usr/bin/vhdiinfo",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "mount": "/bin/mount",
    "podman": "/usr/bin/podman",
    "qemu-utils": "/usr/bin/qemu-img",
    "skopeo": "/usr/bin/skopeo",
    "tmux": "/usr/bin/tmux",
    "umoci": "/usr/bin/umoci",
    "zstd": "/usr/bin/zstd",
}
WINDOWS_PACKAGES = {
    "gcc-mingw-w64-x86-64": "/usr/bin/x86_64-w64-mingw32-gcc",
    "wine": "/usr/bin/wine",
    "wine64": "/usr/lib/wine/wine64",
}
SETS = {"run": RUN_PACKAGES, "test": TEST_PACKAGES, "windows": RUN_PACKAGES | WINDOWS_PACKAGES}


def main() -> int:
    """Bring the machine to what `run` (the demo), `test` or `windows` needs; returns the exit status."""
    if sys.version_info < OLDEST_PYTHON:
        print(f"propolis needs Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or later, not {sys.version.split()[0]}")
        return 1
    packages = SETS[sys.argv[1] if sys.argv[1:] else "run"]
    missing = [name for name, file in packages.items() if not Path(file).exists()]
    if not shutil.which("ensurepip") and not _has_ensurepip():
        missing.append("python3-venv")
    if missing and not install(missing):
        return 1
    _make_venv()
    return 0


def _has_ensurepip() -> bool:
    return (Path(sysconfig.get_path("stdlib")) / "ensurepip" / "__init__.py").exists()


def install(packages: list[str]) -> bool:
    """Install Debian packages; tells what to do where that is not possible, and returns whether it was done."""
    apt = shutil.which("apt-get")
    prefix = [] if os.geteuid() == 0 else ["sudo"]
    if apt is None or (prefix and shutil.which("sudo") is None):
        print(
            "These Debian packages are missing, and they cannot be installed from here (no root, no sudo, or no apt):"
        )
        print("  " + " ".join(packages))
        print("Install them or what your system calls them, then run this again.")
        return False
    print(f"Installing with apt: {' '.join(packages)}", flush=True)
    quiet = [
        *prefix,
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        apt,
        "-qq",
        "-o",
        "Dpkg::Use-Pty=0",
        "-o",
        "DPkg::Lock::Timeout=600",
    ]
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        result = subprocess.run(
            [*quiet, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if result.returncode != 0:
            print(result.stdout)
            print(f"apt-get {arguments[0]} failed. These packages are needed: {' '.join(packages)}")
            return False
    return True


def _make_venv() -> None:
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in _inputs())).hexdigest()
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    print("Making .venv (pinned dependencies, the guest program, the project) ...", flush=True)
    if not (VENV / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    pip = [VENV / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", REQUIREMENTS], check=True)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--editable", ROOT], check=True)
    # as pip does for what it installs whole: without, each start compiles everything where no bytecode may be written
    subprocess.run([VENV / "bin" / "python", "-m", "compileall", "-q", ROOT / "src"], check=True)
    STAMP.write_text(wanted)


def _inputs() -> list[Path]:
    """What the virtual environment and the guest program in it are made from."""
    return [REQUIREMENTS, ROOT / "pyproject.toml", ROOT / "hatch_build.py", *sorted((ROOT / "guest").glob("*.[ch]"))]


if __name__ == "__main__":
    sys.exit(main())
