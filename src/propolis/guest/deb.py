"""Reading a Debian package's files without installing it.

Follows deb(5): an ar archive whose member `data.tar`, compressed or not, is the file tree. One pass, nothing is
written. Knows nothing of kernels.
"""

import gzip
import io
import lzma
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

from propolis.errors import KernelUnsuitable

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TREE_LIMIT = 8 << 30
"""Bytes of one package's unpacked tree; a stock kernel has 0.4 GiB, its debug symbols 5."""
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60
_AR_END = b"`\n"
_TAR_READ = 1 << 20
_DAMAGE = (tarfile.TarError, lzma.LZMAError, zlib.error, zstd.ZstdError, gzip.BadGzipFile, EOFError, ValueError)


class PackagedFile(NamedTuple):
    """One regular file of a package."""

    path: str
    """Relative to the root, without `./`."""
    size: int
    read: Callable[[], bytes]
    """The content; to be called before the next file is asked for."""


def files(package: Path) -> Iterator[PackagedFile]:
    """Go through the regular files of `package`.

    Raises:
        KernelUnsuitable: the file is no Debian package, or damaged, or absurdly large.
    """
    try:
        with package.open("rb") as file:
            stream = _Bounded(_data_member(file, package.name), package.name)
            with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|", bufsize=_TAR_READ) as tar:
                for member in tar:
                    if member.isreg():
                        yield PackagedFile(member.name.removeprefix("./"), member.size, _reader(tar, member))
    except _DAMAGE as error:
        raise KernelUnsuitable(f"package {package.name} is damaged: {error}") from error
    except OSError as error:
        raise KernelUnsuitable(f"cannot read package {package.name}: {error.strerror}") from error


def _reader(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        content = tar.extractfile(member)
        return content.read() if content else b""

    return read


def _data_member(file: IO[bytes], name: str) -> IO[bytes]:
    """The decompressed `data.tar`."""
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise KernelUnsuitable(f"{name} is not a Debian package")
    while header := file.read(_AR_HEADER):
        if len(header) < _AR_HEADER or not header.endswith(_AR_END):
            break
        size = int(header[48:58])
        member = header[:16].decode("ascii", "replace").rstrip(" /")
        if member.startswith("data.tar"):
            raw = cast("IO[bytes]", io.BufferedReader(_Slice(file, size), _TAR_READ))
            return _decompressed(raw, member.removeprefix("data.tar"), name)
        file.seek(size + size % 2, io.SEEK_CUR)
    raise KernelUnsuitable(f"package {name} is damaged: it has no data.tar")


def _decompressed(raw: IO[bytes], suffix: str, name: str) -> IO[bytes]:
    match suffix:
        case ".xz" | ".lzma":
            return cast("IO[bytes]", lzma.open(raw))
        case ".zst":
            return cast("IO[bytes]", zstd.open(raw))
        case ".gz":
            return cast("IO[bytes]", gzip.open(raw))
        case "":
            return raw
    raise KernelUnsuitable(f"package {name} is compressed in a way we do not know: data.tar{suffix}")


class _Slice(io.RawIOBase):
    """The next `size` bytes of a file, as a file."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)


class _Bounded:
    """A stream that refuses to give more than any package holds."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name
        self._left = TREE_LIMIT

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise KernelUnsuitable(f"package {self._name} unpacks to more than {TREE_LIMIT >> 30} GiB")
        return data
