"""Make the images that demo, tests and bench use: real ones, from the distribution's own packages. Cached in `.cache`.

busybox(): one layer with the distribution's static busybox. debian(): a minbase by mmdebstrap, then two more layers by
umoci that change, delete, replace and link things.
"""

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from propolis.testing.images import write_layout

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "images"
BUSYBOX = Path("/bin/busybox")
TOOLCHAIN = (
    "build-essential", "clang-14", "git", "golang-go", "libboost1.74-dev", "linux-headers-amd64", "python3-dev", "vim",
)  # fmt: skip


def busybox() -> str:
    """Reference of an OCI layout with one gzip layer: busybox, its applets, and the few files a system has."""
    return f"oci:{_made('busybox', _make_busybox)}:latest"


def debian() -> str:
    """Reference of an OCI layout with three gzip layers: a Debian minbase and two changes of it."""
    return f"oci:{_made('debian', _make_debian)}:latest"


def editor() -> str:
    """Reference of an OCI layout with one layer: a Debian minbase with vim, what shows processes, and colours."""
    return f"oci:{_made('editor', _make_editor)}:latest"


def busybox_tar() -> Path:
    """busybox()'s layer as a file."""
    return _made("busybox-tar", lambda directory: (directory / "layer.tar").write_bytes(busybox_layer())) / "layer.tar"


def debian_tar() -> Path:
    """A Debian minbase as one tar."""
    return _made("debian-tar", lambda directory: _mmdebstrap(directory / "layer.tar")) / "layer.tar"


def toolchain_tar() -> Path:
    """A Debian with compilers, interpreters and headers as one tar: 1.6 GB, some 60,000 files."""
    return _made("toolchain-tar", lambda directory: _mmdebstrap(directory / "layer.tar", *TOOLCHAIN)) / "layer.tar"


def toolchain() -> str:
    """Reference of an OCI layout with toolchain_tar() as its layer, not compressed."""
    return f"oci:{_made('toolchain', _make_toolchain)}:latest"


def _made(name: str, make: Callable[[Path], object]) -> Path:
    """The image directory of that name; made beside its place and renamed, so a broken attempt does not count."""
    target = CACHE / name
    if not target.exists():
        staged = CACHE / f"{name}.{os.getpid()}"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        try:
            make(staged)
            staged.rename(target)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return target


def busybox_layer() -> bytes:
    """The layer's tar, uncompressed."""
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for directory, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("home", 0o755)):
            _add(tar, directory, tarfile.DIRTYPE, mode)
        _add(tar, "bin/busybox", tarfile.REGTYPE, 0o755, BUSYBOX.read_bytes())
        for applet in sorted(set(applets) - {"busybox"}):
            _add(tar, f"bin/{applet}", tarfile.SYMTYPE, 0o777, link="busybox")
        accounts = (
            b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/false\nnobody:x:65534:65534::/home:/bin/sh\n"
        )
        _add(tar, "etc/passwd", tarfile.REGTYPE, 0o644, accounts)
        _add(tar, "etc/group", tarfile.REGTYPE, 0o644, b"root:x:0:\ndaemon:x:1:\nstaff:x:50:nobody\nnogroup:x:65534:\n")
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, kind: bytes, mode: int, data: bytes = b"", link: str = "") -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.linkname, entry.mtime = kind, mode, len(data), link, 1_700_000_000
    tar.addfile(entry, BytesIO(data))


def _make_busybox(directory: Path) -> None:
    write_layout(
        directory,
        [busybox_layer()],
        config={"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        tag="latest",
    )


_CHANGES = (
    # second layer: delete, replace, empty a directory and fill it anew, link, capabilities, odd files
    """
    rm -rf usr/share/doc/apt etc/motd
    rm -rf opt && mkdir -m 0711 opt && echo new > opt/new
    rm -rf usr/share/common-licenses && mkdir usr/share/common-licenses && echo mine > usr/share/common-licenses/MINE
    echo changed >> etc/issue
    mkdir -p srv/data && printf 'first\\n' > srv/data/a && ln srv/data/a srv/data/b && ln -s ../data/a srv/data/link
    mkfifo srv/data/fifo && mknod srv/data/null c 1 3 && chown 1234:70000 srv/data/fifo
    cp bin/true srv/data/capable && setcap cap_net_raw+ep srv/data/capable
    setfattr -n user.colour -v blue srv/data/a
    printf 'text' > "srv/data/name with spaces and \\303\\244" && touch -d @-86400.123456789 srv/data/a
    """,
    # third layer: change what the second one made
    """
    rm srv/data/b
    chmod 4755 srv/data/capable
    rm opt/new && mkdir opt/new && echo deeper > opt/new/file
    rm -rf srv/data/fifo && echo 'now a file' > srv/data/fifo
    """,
)


def _make_debian(directory: Path) -> None:
    base = directory.with_name(f"{directory.name}.tar")
    bundle = directory.with_name(f"{directory.name}.bundle")
    image = f"{directory}:latest"
    try:
        directory.rmdir()
        _mmdebstrap(base)
        _run("umoci", "init", "--layout", directory)
        _run("umoci", "new", "--image", image)
        _run("umoci", "unpack", "--image", image, bundle)
        _run("tar", "-xpf", base, "-C", bundle / "rootfs", "--xattrs", "--xattrs-include=*", "--numeric-owner")
        _run("umoci", "repack", "--refresh-bundle", "--image", image, bundle)
        for change in _CHANGES:
            subprocess.run(["sh", "-ec", change], cwd=bundle / "rootfs", check=True)
            _run("umoci", "repack", "--refresh-bundle", "--image", image, bundle)
        _run(
            "umoci", "config", "--image", image, "--config.cmd", "bash", "--config.env", f"PATH={os.defpath}:/usr/sbin"
        )
        _run("umoci", "gc", "--layout", directory)
    finally:
        base.unlink(missing_ok=True)
        shutil.rmtree(bundle, ignore_errors=True)


def _make_editor(directory: Path) -> None:
    layer = directory.with_name(f"{directory.name}.tar")
    try:
        _mmdebstrap(layer, "htop", "vim")
        config = {"Cmd": ["bash"], "Env": [f"PATH={os.defpath}:/usr/sbin"]}
        write_layout(directory, [layer.read_bytes()], config=config, tag="latest")
    finally:
        layer.unlink(missing_ok=True)


def _mmdebstrap(target: Path, *packages: str) -> None:
    include = (f"--include={','.join(packages)}",) if packages else ()
    _run("mmdebstrap", "--quiet", "--variant=minbase", *include, "bookworm", target)


def _make_toolchain(directory: Path) -> None:
    write_layout(directory, [toolchain_tar().read_bytes()], compression="none", config={"Cmd": ["sh"]}, tag="latest")


def _run(*command: str | Path) -> None:
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{result.stdout}")
