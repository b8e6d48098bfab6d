import gzip
import lzma
import sys

import pytest

from propolis.errors import KernelUnsuitable
from propolis.guest import deb

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FILES = {"boot/vmlinuz-1": b"kernel" * 9, "lib/modules/1/x.ko": b"module"}


def _read(path):
    return {file.path: file.read() for file in deb.files(path)}


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [(".xz", lzma.compress), (".gz", gzip.compress), (".zst", zstd.compress), ("", bytes)],
)
def test_the_files_come_out_however_the_tree_is_compressed(tmp_path, crafted, suffix, compress):
    package = tmp_path / "linux.deb"
    package.write_bytes(crafted.make_deb(FILES, suffix, compress))
    assert _read(package) == FILES


def test_files_that_are_not_read_are_skipped(tmp_path, crafted):
    package = tmp_path / "linux.deb"
    package.write_bytes(crafted.make_deb(FILES))
    assert [(file.path, file.size) for file in deb.files(package)] == [
        (path, len(data)) for path, data in FILES.items()
    ]


def test_no_truncation_escapes(tmp_path, crafted):
    whole = crafted.make_deb(FILES)
    package = tmp_path / "linux.deb"
    for length in range(len(whole) - 16):
        package.write_bytes(whole[:length])
        with pytest.raises(KernelUnsuitable, match=r"linux\.deb"):
            _read(package)


def test_an_unknown_compression_is_named(tmp_path, crafted):
    package = tmp_path / "linux.deb"
    package.write_bytes(crafted.make_deb(FILES, ".br", bytes))
    with pytest.raises(KernelUnsuitable, match=r"data\.tar\.br"):
        _read(package)
