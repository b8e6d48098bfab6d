"""`make bench-disks`: conversion of layers to disks beside the native tools, in turn and in one run.

Three layers: tiny (busybox), medium (Debian minbase), large (Debian with compilers, some 60,000 files). Ratios are to
`cp` of the plain tar, the floor. Nothing is asserted.
"""

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import images
from disks import NothingBelow, file, other, push
from propolis.disk.ext4.writer import LayerWriter
from propolis.disk.raw import RawWriter
from propolis.disk.writable import make_writable
from propolis.spec import DiskFormat
from propolis.tree import Kind

CONVERT = Path(__file__).with_name("convert.py")
ROUNDS = {"tiny": 11, "medium": 7, "large": 5}
MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar"
SMALL_FILES = 200_000


@dataclass(frozen=True, slots=True)
class Taken:
    """One run: seconds of wall and of CPU, MiB of memory; None where that was not measured."""

    seconds: float
    cpu: float | None = None
    memory: float | None = None


@dataclass(frozen=True, slots=True)
class Blob:
    """A layer in one compression."""

    path: Path
    media_type: str
    digest: str


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir=images.CACHE.parent) as scratch:
        directory = Path(scratch)
        for name, make in (
            ("tiny", images.busybox_tar),
            ("medium", images.debian_tar),
            ("large", images.toolchain_tar),
        ):
            layer(name, make(), directory)
        single_figures(directory)


def layer(name: str, tar: Path, directory: Path) -> None:
    """One table: each way to convert the layer, run in turn."""
    plain, gzip, zstd = blobs(tar, directory)
    tree = directory / "tree"
    tree.mkdir()
    subprocess.run(["tar", "-xpf", tar, "-C", tree, "--numeric-owner"], check=True)
    raw, out = directory / "raw", directory / "out"
    ours(plain, plain, "raw", raw)
    ways: dict[str, Callable[[], Taken]] = {
        "cp": lambda: command("cp", tar, out),
        "propolis: tar -> raw": lambda: ours(plain, plain, "raw", out),
        "propolis: tar -> vhdx": lambda: ours(plain, plain, "vhdx", out),
        "propolis: tar.gz -> vhdx": lambda: ours(gzip, plain, "vhdx", out),
        "propolis: tar.zst -> vhdx": lambda: ours(zstd, plain, "vhdx", out),
        "mke2fs -d directory (unpacked before)": lambda: mke2fs(tree, raw.stat().st_size, out),
        "qemu-img convert raw -> vhdx": lambda: command("qemu-img", "convert", "-O", "vhdx", raw, out),
    }
    if shutil.which("mkfs.erofs"):
        ways["mkfs.erofs directory (unpacked before)"] = lambda: command("mkfs.erofs", "--quiet", out, tree)
    taken: dict[str, list[Taken]] = {way: [] for way in ways}
    for _ in range(ROUNDS[name]):
        for way, run in ways.items():
            out.unlink(missing_ok=True)
            os.sync()
            taken[way].append(run())
    report(f"{name}: {tar.stat().st_size / 1e6:.1f} MB of tar", taken)
    shutil.rmtree(tree)


def report(title: str, taken: dict[str, list[Taken]]) -> None:
    """Print one table."""
    print(f"\n{title} (n={len(taken['cp'])}, load {os.getloadavg()[0]:.1f})")
    print(f"{'':<42} {'median s':>9} {'min s':>8} {'x cp':>6} {'CPU s':>7} {'MiB':>6}")
    floor = statistics.median(run.seconds for run in taken["cp"])
    for way, runs in taken.items():
        seconds = [run.seconds for run in runs]
        cpu = [run.cpu for run in runs if run.cpu is not None]
        memory = [run.memory for run in runs if run.memory is not None]
        print(
            f"{way:<42} {statistics.median(seconds):9.3f} {min(seconds):8.3f} {statistics.median(seconds) / floor:6.2f}"
            f" {statistics.median(cpu) if cpu else 0:7.2f} {max(memory, default=0):6.0f}",
            flush=True,
        )


def blobs(tar: Path, directory: Path) -> Iterator[Blob]:
    """The layer plain, with gzip -6, and with zstd -3."""
    for suffix, compress in (("", None), ("+gzip", ("gzip", "-6")), ("+zstd", ("zstd", "-3", "-q"))):
        path = tar
        if compress is not None:
            path = directory / f"{tar.name}{suffix}"
            with tar.open("rb") as source, path.open("wb") as target:
                subprocess.run([*compress, "-c"], stdin=source, stdout=target, check=True)
        with path.open("rb") as opened:
            yield Blob(path, MEDIA_TYPE + suffix, f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}")


def ours(blob: Blob, plain: Blob, disk_format: str, out: Path) -> Taken:
    """One conversion in a process of its own; imports are not counted."""
    arguments = [blob.path, blob.media_type, blob.digest, plain.digest, disk_format, out]
    told = subprocess.run([sys.executable, CONVERT, *arguments], capture_output=True, text=True, check=True).stdout
    return Taken(*map(float, told.split()))


def command(*arguments: str | Path) -> Taken:
    """One run of another tool."""
    before, cpu = time.perf_counter(), os.times()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    used = after.children_user + after.children_system - cpu.children_user - cpu.children_system
    return Taken(time.perf_counter() - before, used)


def mke2fs(tree: Path, size: int, out: Path) -> Taken:
    """e2fsprogs' own way to fill a file system, without journal, on a file of the size that it needs."""
    blocks = str(size * 5 // 4 // 4096 + 8192)
    return command(
        "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-b", "4096", "-i", "8192", "-d", tree, out, blocks
    )


def single_figures(directory: Path) -> None:
    """A machine's own disk, and very many small files."""
    print()
    files = {f"file-{number}": b"x" * 1000 for number in range(10)}
    for disk_format in (DiskFormat.RAW, DiskFormat.VHDX):
        path = directory / f"machine.{disk_format}"
        seconds = []
        for _ in range(11):
            before = time.perf_counter()
            make_writable(path, disk_format, files, size=8 << 30)
            seconds.append((time.perf_counter() - before) * 1000)
        print(
            f"writable {disk_format} of 8 GiB with ten files: {statistics.median(seconds):.1f} ms (asked: 20), "
            f"{path.stat().st_blocks / 2:.0f} KiB allocated (asked: 1024), {path.stat().st_size >> 10} KiB long"
        )
    rates = [small_files(directory / "small") for _ in range(3)]
    print(f"{SMALL_FILES} files of 4 KiB in 200 directories: {statistics.median(rates):.0f} files/s (asked: 40000)")


def small_files(path: Path) -> float:
    """Files per second, from entries to the finished disk."""
    content = os.urandom(4096)
    items = [other(Kind.DIRECTORY, b"d%d" % number) for number in range(200)]
    items += [file(b"d%d/file-%d" % (number % 200, number), content) for number in range(SMALL_FILES)]
    path.unlink(missing_ok=True)
    before = time.perf_counter()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    writer = LayerWriter(RawWriter(descriptor), what="it", lower=NothingBelow())
    push(writer, items)
    writer.finish("key")
    os.close(descriptor)
    return SMALL_FILES / (time.perf_counter() - before)


if __name__ == "__main__":
    main()
