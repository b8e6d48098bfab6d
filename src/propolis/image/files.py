"""Files by name, and those of a directory; those of a tar are in `tar_files`.

Knows nothing of images. Names are relative, with `/` between their parts.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from propolis.errors import ImageError, ImageInvalid, ImageNotFound


class Files(Protocol):
    """Read-only files by name."""

    @property
    def where(self) -> str:
        """The place, for messages."""

    def __contains__(self, name: str) -> bool:
        """Whether there is a file of that name."""

    def open(self, name: str) -> tuple[BinaryIO, int]:
        """Open a file; returns it and its size in bytes. The caller closes it; several may be open at once.

        Raises:
            ImageNotFound: there is no regular file of that name.
            ImageError: the host does not let it be read.
        """

    def close(self) -> None:
        """Give up what was made on this host to have them. Idempotent."""


def read_all(files: Files, name: str, limit: int) -> bytes:
    """The whole file, which may have at most `limit` bytes.

    Raises:
        ImageInvalid: it is larger.
        ImageError: as `Files.open`.
    """
    file, size = files.open(name)
    with file:
        if size > limit:
            raise ImageInvalid(f"{name[:200]} in {files.where} is larger than {limit} bytes")
        try:
            return file.read(limit)
        except OSError as error:
            raise ImageError(f"cannot read {name[:200]} in {files.where}: {error.strerror}") from error


class DirectoryFiles:
    """Files below a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def where(self) -> str:
        """See `Files.where`."""
        return str(self._directory)

    def __contains__(self, name: str) -> bool:
        return has_file(self._directory, name)

    def open(self, name: str) -> tuple[BinaryIO, int]:
        """See `Files.open`."""
        return open_regular(self._directory / name, f"{name} in {self.where}")

    def close(self) -> None:
        """See `Files.close`."""


def mode_of(path: Path) -> int:
    """Mode of what lies at `path`, links followed; 0 when nothing does.

    Raises:
        ImageError: the host does not let us look.
    """
    try:
        return path.stat().st_mode
    except PermissionError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}", hint="check its owner and permissions") from error
    except (OSError, ValueError):  # among them names that no file can have
        return 0


def has_file(directory: Path, name: str) -> bool:
    """Whether there is a file of that name, as far as the host tells."""
    try:
        return (directory / name).is_file()
    except OSError:
        return False


def open_regular(path: Path, what: str) -> tuple[BinaryIO, int]:
    """Open a regular file unbuffered, with its size; looks first, because opening a FIFO would wait for its writer."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ImageNotFound(f"{what} is not a regular file")
        file = path.open("rb", buffering=0)
    except (FileNotFoundError, NotADirectoryError):
        raise ImageNotFound(f"there is no {what}", hint="the image is incomplete or the path is wrong") from None
    except OSError as error:
        raise ImageError(f"cannot read {what}: {error.strerror}", hint="check its owner and permissions") from error
    return cast(BinaryIO, file), os.fstat(file.fileno()).st_size
