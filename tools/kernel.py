"""Build the tuned guest kernel and install the package `propolis-kernel` into `.venv`; nothing to do when it is there.

Usage: kernel.py [--wheel]. The source is Debian's package `linux-source-6.1`, the configuration the fragments in
`kernel/fragments` over `allnoconfig`; a line of them that does not survive `olddefconfig` is an error. A build is kept
in the user's cache under a hash of all that it depends on, so that another checkout does not repeat it.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import bootstrap

ROOT = bootstrap.ROOT
KERNEL = ROOT / "kernel"
SOURCE_PACKAGE = "linux-source-6.1"
TARBALL = Path("/usr/src/linux-source-6.1.tar.xz")
ARCHITECTURE = "x86_64"
TARGET = KERNEL / "src" / "propolis_kernel" / ARCHITECTURE
WORK = ROOT / ".cache" / "kernel"
IMAGE = Path("arch/x86/boot/bzImage")
PACKAGES = {
    SOURCE_PACKAGE: str(TARBALL),
    "bc": "/usr/bin/bc",
    "bison": "/usr/bin/bison",
    "flex": "/usr/bin/flex",
    "gcc": "/usr/bin/gcc",
    "libc6-dev": "/usr/include/stdio.h",
    "libelf-dev": "/usr/include/libelf.h",
    "libssl-dev": "/usr/include/openssl/ssl.h",
    "make": "/usr/bin/make",
    "xz-utils": "/usr/bin/xz",
}
_ENVIRONMENT = os.environ | {
    # the same bytes from whoever builds it
    "KBUILD_BUILD_TIMESTAMP": "1970-01-01",
    "KBUILD_BUILD_USER": "propolis",
    "KBUILD_BUILD_HOST": "propolis",
}


def main() -> int:
    """Build what is missing; returns the exit status."""
    missing = [name for name, file in PACKAGES.items() if not Path(file).exists()]
    if missing and not bootstrap.install(missing):
        return 1
    version = _source_version()
    kept = _cache() / _stamp(version)
    if not (kept / "SOURCE.json").exists():
        _build(kept, version)
    if not _same(kept, TARGET):
        shutil.rmtree(TARGET, ignore_errors=True)
        shutil.copytree(kept, TARGET)
    _install()
    if "--wheel" in sys.argv[1:]:
        build = [bootstrap.VENV / "bin" / "python", "-m", "hatchling", "build", "-t", "wheel", "-d", ROOT / "dist"]
        subprocess.run(build, cwd=KERNEL, check=True)
    return 0


def _source_version() -> str:
    query = ["dpkg-query", "-W", "-f", "${Version}", SOURCE_PACKAGE]
    return subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip()


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "propolis-kernel"


def fragments() -> list[Path]:
    """The fragments of the configuration, in order."""
    return [KERNEL / "fragments" / f"{name}.config" for name in ("common", ARCHITECTURE)]


def lines(path: Path) -> list[str]:
    """The assignments in a fragment."""
    return [line for line in path.read_text().splitlines() if line.startswith("CONFIG_")]


def lost(wanted: list[str], config: str) -> list[str]:
    """Those of `wanted` that a finished configuration does not have."""
    have = set(config.splitlines())
    return [
        line
        for line in wanted
        if (f"# {line.removesuffix('=n')} is not set" not in have and f"{line.removesuffix('=n')}=y" in have)
        or (not line.endswith("=n") and line not in have)
    ]


def _stamp(version: str) -> str:
    digest = hashlib.sha256(f"{version} {ARCHITECTURE}".encode())
    for path in (*fragments(), Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


def _build(kept: Path, version: str) -> None:
    print(f"Building the guest kernel from {SOURCE_PACKAGE} {version}; some minutes ...", flush=True)
    tree = WORK / version / SOURCE_PACKAGE
    if not (tree / "Makefile").exists():
        shutil.rmtree(tree.parent, ignore_errors=True)
        tree.parent.mkdir(parents=True)
        subprocess.run(["tar", "-xf", TARBALL, "-C", tree.parent], check=True)
    _configure(tree)
    _make(tree, f"-j{os.cpu_count() or 1}", "bzImage")
    release = _make(tree, "-s", "kernelrelease").strip()
    staged = kept.with_name(f".{kept.name}.{os.getpid()}")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    shutil.copy(tree / IMAGE, staged / f"vmlinuz-{release}")
    shutil.copy(tree / ".config", staged / f"config-{release}")
    source = {
        "package": SOURCE_PACKAGE,
        "version": version,
        "release": release,
        "architecture": ARCHITECTURE,
        "inputs": kept.name,
    }
    (staged / "SOURCE.json").write_text(json.dumps(source, indent=1) + "\n")
    staged.rename(kept)
    shutil.rmtree(tree.parent)


def _configure(tree: Path) -> None:
    wanted = [line for path in fragments() for line in lines(path)]
    _make(tree, "-s", "allnoconfig")
    with (tree / ".config").open("a") as config:
        config.write("\n".join(wanted) + "\n")
    _make(tree, "-s", "olddefconfig")
    if missing := lost(wanted, (tree / ".config").read_text()):
        raise SystemExit(f"the configuration does not keep {', '.join(missing)}: what they depend on is missing")


def _make(tree: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["make", f"ARCH={ARCHITECTURE}", *arguments],
        cwd=tree,
        env=_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"make {' '.join(arguments)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def _same(kept: Path, target: Path) -> bool:
    here = target / "SOURCE.json"
    return here.exists() and here.read_text() == (kept / "SOURCE.json").read_text()


def _install() -> None:
    python = bootstrap.VENV / "bin" / "python"
    found = subprocess.run([python, "-c", "import propolis_kernel"], capture_output=True, check=False)
    if found.returncode != 0:
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--editable", KERNEL], check=True)


if __name__ == "__main__":
    sys.exit(main())
