"""The writable disk of one machine: empty but for what overlayfs and the guest's init need.

Made in milliseconds whatever its size, as nearly all of it is hole. It has no journal: it goes when its machine goes.
"""

from collections.abc import Mapping
from pathlib import Path

from propolis.disk import container
from propolis.disk.ext4.writer import write_writable
from propolis.host.files import stage
from propolis.spec import DiskFormat

DEFAULT_SIZE = 8 << 30
_UPPER_MODE = 0o755


def make_writable(path: Path, disk_format: DiskFormat, files: Mapping[str, bytes], *, size: int = DEFAULT_SIZE) -> None:
    """Make a disk of about `size` bytes at `path` with `upper/`, `work/` and `files` (name to content) in its root.

    Raises:
        InvalidArgument: a container that cannot be written.
        StorageFull: no room on the host.
    """
    container.check(disk_format)
    with stage(path, mode=0o600, durable=False) as staged:
        write_writable(
            staged.descriptor,
            size=size,
            key=str(path),
            directories={b"upper": _UPPER_MODE, b"work": 0o700},
            files={name.encode(): data for name, data in files.items()},
        )
        container.seal(staged.descriptor, disk_format, str(path))
