"""Disk files for whoever wants them outside of propolis: an image, a tar or a directory becomes an ext4 disk.

Public as `propolis.disk.build`; it lives here because images and disks meet in it.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from propolis.disk import container
from propolis.disk.base import DiskWriter, FileSystemOptions
from propolis.disk.below import Below
from propolis.disk.ext4 import writer as ext4
from propolis.disk.ext4.writer import LayerWriter
from propolis.disk.verity import VerityWriter
from propolis.errors import DiskError, InvalidArgument
from propolis.host.files import stage, storage_errors, sweep
from propolis.machine.disk_source import Content, contents, path_of
from propolis.progress import Reporter, Silent
from propolis.spec import DiskFormat

_STEP = "write disk"
_SUFFIXES = {
    ".vhdx": DiskFormat.VHDX,
    ".vhd": DiskFormat.VHD,
    ".raw": DiskFormat.RAW,
    ".img": DiskFormat.RAW,
    ".ext4": DiskFormat.RAW,
}
_VERITY_KEY = "disk"
"""Salt and identifier of a tree have to be known before the content is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltDisk:
    """One disk file that was built."""

    path: Path
    format: DiskFormat
    size: int
    """Bytes of the file system."""
    key: str
    """What the disk's identifiers come from: a digest of the layer, the tar, the directory or the stack of layers."""
    root_hash: str = ""
    """dm-verity's, in hexadecimal, where a tree was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    format: DiskFormat
    options: FileSystemOptions
    verity: bool


def build(
    source: str | Path,
    output: str | Path,
    *,
    format: DiskFormat | str | None = None,
    flatten: bool = False,
    size: int | None = None,
    label: str = "",
    journal: bool = False,
    verity: bool = False,
    signature_policy: str | Path | None = None,
    platform: str | None = None,
    reporter: Reporter | None = None,
) -> tuple[BuiltDisk, ...]:
    """Make disk files of an image, a tar or a directory; the tree lies in the root of an ext4 file system.

    An image of several layers gives one disk with `flatten`; without it, `output` is a directory that gets one disk for
    each layer, whiteouts in them as overlayfs reads them. Each file is there whole or not at all.

    Args:
        source: an image reference as `run` takes it, a tar file (plain, gzip, zstd), or a directory with a root file
            system; `tar:` and `rootfs:` in front of a path leave no doubt.
        output: the file, or a directory (existing, or ending in a slash).
        format: vhdx, vhd or raw; by default what the name of `output` ends in, else vhdx.
        flatten: merge all layers, so that no whiteout is left.
        size: bytes of the disk; by default as small as the content.
        label: the file system's, at most 16 bytes.
        journal: give the file system a journal; of use where the disk is written to.
        verity: put a dm-verity tree behind the file system.
        signature_policy: a file that says which images may be used, in place of this host's own, if it has one.
        platform: of the image, `linux/ARCHITECTURE[/VARIANT]`; linux/amd64 by default.
        reporter: hears about progress.

    Raises:
        InvalidArgument: the arguments contradict one another.
        ImageError: the source is not there, or not what it should be.
        DiskError: the disk cannot be written, or cannot hold the source.
    """
    reporter = reporter or Silent()
    target = Path(output)
    is_directory = target.is_dir() or str(output).endswith(("/", "\\"))
    wish = _Wish(
        format=_format(target, format, is_directory),
        options=ext4.check(FileSystemOptions(size=size, label=label, journal=journal)),
        verity=verity,
    )
    place = path_of(str(source))
    _check_target(place, target, is_directory)
    trusted = None if signature_policy is None else Path(signature_policy)
    with contents(str(source), flatten, reporter, platform, trusted) as found:
        if len(found) > 1 and not is_directory:
            raise InvalidArgument(
                f"{source} has {len(found)} layers, which make a disk each",
                hint="merge them with --flatten, or name a directory for the disks",
            )
        names = [target / f"{content.name}.{wish.format}" if is_directory else target for content in found]
        for name in names if is_directory else ():
            _check_target(place, name, is_directory=False)
        return tuple(_make(content, name, wish, reporter) for content, name in zip(found, names, strict=True))


def _format(target: Path, chosen: DiskFormat | str | None, is_directory: bool) -> DiskFormat:
    told = None if is_directory else _SUFFIXES.get(target.suffix.lower())
    if chosen is None:
        return told or DiskFormat.VHDX
    if chosen not in list(DiskFormat):
        raise InvalidArgument(f"{str(chosen)[:40]!r} is no format of disks", hint=f"choose {', '.join(DiskFormat)}")
    wanted = DiskFormat(chosen)
    if told not in (None, wanted):
        raise InvalidArgument(
            f"{target.name} is the name of a {told} disk, but {wanted} is asked for", hint="change one of the two"
        )
    return wanted


def _check_target(source: Path | None, target: Path, is_directory: bool) -> None:
    """Refuse to overwrite what must not be, before any work."""
    if not is_directory and target.exists() and not target.is_file():
        raise InvalidArgument(f"{target} is there and is no file", hint="name another, or remove it")
    if source is None:
        return
    if source.is_file() and target.is_file() and target.samefile(source):
        raise InvalidArgument(f"{target} would replace its own source", hint="name another file")
    if source.is_dir() and target.resolve().is_relative_to(source.resolve()):
        raise InvalidArgument(f"{target} lies in its own source", hint="name a place outside of it")


def _make(content: Content, target: Path, wish: _Wish, reporter: Reporter) -> BuiltDisk:
    reporter.begin(_STEP, target.name)
    sweep(target.parent)  # what a killed build left there
    try:
        with contextlib.ExitStack() as opened:
            staged = opened.enter_context(stage(target))
            below = opened.enter_context(contextlib.closing(Below(content.lower)))
            disk: DiskWriter = container.create(staged.descriptor, wish.format)
            tree = None
            if wish.verity:
                disk = tree = opened.enter_context(contextlib.closing(VerityWriter(disk, _VERITY_KEY)))
            with storage_errors(target):
                writer = LayerWriter(disk, what=content.what, lower=below, tree=b"", options=wish.options)
                key = content.push(writer)
                size = writer.finish(key)
    except OSError as error:
        raise DiskError(f"cannot write {target}: {error.strerror}", hint="choose another place") from error
    reporter.end(_STEP, target.name)
    root_hash = tree.root_hash if tree is not None else ""
    return BuiltDisk(path=target, format=wish.format, size=size, key=key, root_hash=root_hash)
