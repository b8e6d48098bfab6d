"""`propolis disk`: make disk files of images, tars and directories; look into them, and see whether they are whole."""

import contextlib
import itertools
import json
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from propolis.cli.image_options import image_options
from propolis.cli.progress import Progress, progress_options
from propolis.cli.render import printable
from propolis.cli.table import format_options
from propolis.disk import container, verity
from propolis.disk.base import DiskReader
from propolis.disk.ext4 import superblock, verify
from propolis.disk.ext4.lookup import resolve, walk
from propolis.disk.ext4.reader import Inode, Reader
from propolis.disk.ext4.structs import BLOCK_SIZE, S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG
from propolis.disk.vhdx_reader import VhdxReader
from propolis.errors import DiskError
from propolis.machine.build import build
from propolis.machine.sizes import parse_size
from propolis.spec import DiskFormat

_MOST_FAULTS = 100


@click.group("disk")
def command() -> None:
    """Make disk files of images, tars and directories; look into them."""


@command.command("build", short_help="Make an image, a tar or a directory an ext4 disk.")
@click.argument("source")
@click.option("-o", "--output", required=True, metavar="FILE|DIR", help="The disk to make; a directory for several.")
@click.option("--format", "disk_format", metavar="|".join(DiskFormat), help="[default: what FILE ends in, or vhdx]")
@click.option("--flatten", is_flag=True, help="Merge all layers into one disk; no whiteout is left.")
@click.option("--size", metavar="SIZE", help="Size of the disk, as 8g. [default: as small as the content]")
@click.option("--label", default="", metavar="TEXT", help="The file system's label.")
@click.option("--journal", is_flag=True, help="Give the file system a journal, if it is to be written to.")
@click.option("--verity", "with_verity", is_flag=True, help="Put a dm-verity tree behind it, and print its root hash.")
@image_options(platform="linux/amd64")
@progress_options
def build_command(source: str, output: str, **given: Any) -> int:
    """Make SOURCE an ext4 disk: an image (as for `run`), a tar, or a directory with a root file system.

    tar:FILE and rootfs:DIR leave no doubt. An image of several layers needs --flatten, or a directory for a disk each,
    where deleted files are as overlayfs has them. A tar by itself is such a layer too.
    """
    progress = Progress(given["progress"])
    try:
        disks = build(
            source,
            output,
            format=given["disk_format"],
            flatten=given["flatten"],
            size=None if given["size"] is None else parse_size(given["size"]),
            label=given["label"],
            journal=given["journal"],
            verity=given["with_verity"],
            signature_policy=given["signature_policy"],
            platform=given["platform"],
            reporter=progress,
        )
    finally:
        progress.close()
    for disk in disks:
        click.echo(f"{printable(str(disk.path))}" + (f"  root hash {disk.root_hash}" if disk.root_hash else ""))
    return 0


@command.command("info")
@click.argument("file", type=click.Path(path_type=Path))
@format_options("text", what="one object")
def info_command(file: Path, form: str) -> int:
    """Tell what kind of disk FILE is, and what is on it."""
    with _opened(file) as disk:
        found = _facts(file, disk)
    if form == "json":
        click.echo(json.dumps(found, indent=2))
        return 0
    for part, values in found.items():
        for name, value in values.items() if isinstance(values, dict) else [("", values)]:
            text = ", ".join(value) if isinstance(value, list) else str(value)
            click.echo(f"{f'{part} {name}'.strip().replace('_', ' '):<28} {printable(text)}")
    return 0


def _facts(file: Path, disk: DiskReader) -> dict[str, Any]:
    found: dict[str, Any] = {
        "file": str(file),
        "format": str(container.format_of(file)),
        "file_size": file.stat().st_size,
        "disk_size": disk.size,
    }
    if isinstance(disk, VhdxReader):
        found["vhdx"] = {name: _plain(value) for name, value in asdict(disk.facts()).items()}
    system = superblock.facts(disk.read(0, min(BLOCK_SIZE, disk.size)))
    if system is not None:
        found["ext4"] = {name: _plain(value) for name, value in asdict(system).items()}
        tree = _verity(disk)
        if tree is not None:
            found["verity"] = {
                "root_hash": verity.root_hash(disk, tree),
                "salt": tree.salt.hex(),
                "offset": tree.layout.superblock,
            }
    return found


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value if isinstance(value, bool | int) else str(value)


def _verity(disk: DiskReader) -> verity.Verity | None:
    system = superblock.facts(disk.read(0, min(BLOCK_SIZE, disk.size)))
    return None if system is None else verity.find(disk, system.size)


@command.command("ls")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("path", default="/")
@click.option("-l", "long", is_flag=True, help="Show modes, owners, sizes, times (UTC) and link targets.")
@click.option("-R", "recursive", is_flag=True, help="Show what is below, too.")
def ls_command(file: Path, path: str, long: bool, recursive: bool) -> int:
    """List PATH on the disk in FILE. A + marks extended attributes."""
    wanted = path.encode(errors="surrogateescape")
    with _reading(file) as reader:
        inode = resolve(reader, wanted)
        if inode.kind != S_IFDIR:
            _list(reader, [(wanted, inode)], long)
            return 0
        for number, (directory, entries) in enumerate(walk(reader, inode, wanted)):
            if recursive:
                click.echo(f"{'' if not number else chr(10)}{_text(directory)}:")
            _list(reader, entries, long)
            if not recursive:
                break
    return 0


def _list(reader: Reader, entries: list[tuple[bytes, Inode]], long: bool) -> None:
    for name, inode in entries:
        if not long:
            click.echo(_text(name))
            continue
        size = f"{inode.device[0]}, {inode.device[1]}" if inode.kind in (S_IFCHR, S_IFBLK) else str(inode.size)
        when = datetime.fromtimestamp(inode.mtime_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")
        mark = "+" if reader.xattrs(inode) else " "
        target = f" -> {_text(reader.link(inode))}" if inode.kind == S_IFLNK else ""
        attributes = f"{stat.filemode(inode.mode)}{mark} {inode.links:>3} {inode.uid:>5} {inode.gid:>5} {size:>10}"
        click.echo(f"{attributes} {when} {_text(name)}{target}")


def _text(name: bytes) -> str:
    return printable(name.decode(errors="backslashreplace"))


@command.command("cat", short_help="Write out a file on a disk.")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("path")
def cat_command(file: Path, path: str) -> int:
    """Write what is in the file PATH on the disk in FILE to standard output."""
    with _reading(file) as reader:
        inode = resolve(reader, path.encode(errors="surrogateescape"), follow=True)
        if inode.kind != S_IFREG:
            raise DiskError(f"{path} is not a file", hint="`propolis disk ls` shows what there is")
        for piece in reader.content(inode):
            _write(piece)
    sys.stdout.buffer.flush()
    return 0


def _write(piece: bytes | int) -> None:
    if isinstance(piece, bytes):
        sys.stdout.buffer.write(piece)
        return
    for start in range(0, piece, 1 << 20):
        sys.stdout.buffer.write(bytes(min(1 << 20, piece - start)))


@command.command("verify", short_help="Check a disk: container, file system, dm-verity.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--root-hash", metavar="HEX", help="What the dm-verity tree's root hash has to be.")
def verify_command(file: Path, root_hash: str | None) -> int:
    """Check the disk in FILE: its container, its file system's structure and checksums, its dm-verity tree.

    Exits with 1 when something is wrong. The content of files is only covered by a dm-verity tree.
    """
    with _opened(file) as disk:
        found = list(itertools.islice(_faults(file, disk, root_hash), _MOST_FAULTS))
    for fault in found:
        click.echo(printable(fault))
    if not found:
        click.echo("ok")
    return int(bool(found))


def _faults(file: Path, disk: DiskReader, root_hash: str | None) -> Iterator[str]:
    yield from container.faults(file)
    yield from verify.faults(disk)
    tree = _verity(disk)
    if tree is not None:
        yield from verity.faults(disk, tree, root_hash)
    elif root_hash is not None:
        yield "there is no dm-verity tree"


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[DiskReader]:
    with _readable(file), contextlib.closing(container.open_disk(file)) as disk:
        yield disk


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[Reader]:
    with _readable(file), contextlib.closing(Reader(file)) as reader:
        yield reader


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        if file.is_dir():
            raise DiskError(f"{file} is a directory, not a disk file", hint="name a file")
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise DiskError(f"cannot read {file}: {error.strerror}", hint="name a disk file that you may read") from error
