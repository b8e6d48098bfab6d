"""An image of oddities: every kind of entry, every way to write it into a tar, every way for layers to disagree.

Made with Python's tarfile, so that what reads it did not write it. What umoci cannot unpack is left to other tests.
"""

import io
import random
import tarfile
from pathlib import Path

from propolis.testing.images import write_layout

_TIME = 1_700_000_000


class _Layer:
    """One layer's tar, entry by entry."""

    def __init__(self, tar_format: int) -> None:
        self._buffer = io.BytesIO()
        self._format = tar_format
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=tar_format)  # noqa: SIM115 - closed by `tar`

    def add(self, name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **attributes: object) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.size, entry.mtime, entry.mode = kind, len(data), _TIME, 0o644
        for attribute, value in attributes.items():
            setattr(entry, attribute, value)
        self._tar.addfile(entry, io.BytesIO(data))

    def directory(self, name: str, **attributes: object) -> None:
        self.add(name, tarfile.DIRTYPE, **({"mode": 0o755} | attributes))

    def tar(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


def image(directory: Path) -> str:
    """Write the image as an OCI layout; returns its reference."""
    write_layout(directory, [_first(), _second(), _third()], config={"Cmd": ["sh"]}, tag="latest")
    return f"oci:{directory}:latest"


def _first() -> bytes:
    layer = _Layer(tarfile.PAX_FORMAT)
    chance = random.Random(1)
    layer.directory("./", mode=0o755)
    for name in ("files", "links", "gone", "opaque", "opaque/deep", "replaced", "types", "names", "many"):
        layer.directory(f"./{name}/")
    for size in (0, 1, 59, 60, 511, 512, 513, 4095, 4096, 4097, 65535, 65536, 65537, 300_000):
        layer.add(f"files/{size}", data=chance.randbytes(size))
    layer.add("files/zeros", data=bytes(1_000_000))
    layer.add("files/mostly-zeros", data=b"a" + bytes(500_000) + b"b" + bytes(500_000))
    layer.add("files/setuid", data=b"x", mode=0o4755)
    layer.add("files/setgid-sticky", data=b"x", mode=0o3711)
    layer.add("files/no-rights", data=b"x", mode=0)
    layer.add("files/large-ids", data=b"x", uid=3_000_000_000, gid=4_000_000_000)
    layer.add("files/precise", data=b"x", mtime=1_234_567_890.123456789, pax_headers={"mtime": "1234567890.123456789"})
    layer.add("files/before-1970", data=b"x", pax_headers={"mtime": "-86400.25"})
    layer.add("files/attributes", data=b"x", pax_headers={f"SCHILY.xattr.user.{n}": n * 20 for n in ("a", "bb", "ccc")})
    layer.add("files/large-attribute", data=b"x", pax_headers={"SCHILY.xattr.user.large": "v" * 3000})
    layer.add("files/target", data=b"shared")
    layer.add("links/hard", tarfile.LNKTYPE, linkname="files/target")
    layer.add("links/hard-again", tarfile.LNKTYPE, linkname="./links/hard")
    layer.add("links/short", tarfile.SYMTYPE, linkname="../files/target", mode=0o777)
    layer.add("links/59", tarfile.SYMTYPE, linkname="x" * 59, mode=0o777)
    layer.add("links/60", tarfile.SYMTYPE, linkname="x" * 60, mode=0o777)
    layer.add("links/long", tarfile.SYMTYPE, linkname="/".join(["y" * 200] * 10), mode=0o777)
    layer.add("links/to-nowhere", tarfile.SYMTYPE, linkname="/absent/../../..", mode=0o777)
    layer.add("types/character", tarfile.CHRTYPE, devmajor=1, devminor=3)
    layer.add("types/block", tarfile.BLKTYPE, devmajor=259, devminor=300)
    layer.add("types/large-minor", tarfile.CHRTYPE, devmajor=10, devminor=1_000_000)
    layer.add("types/fifo", tarfile.FIFOTYPE)
    layer.add("names/" + "n" * 255, data=b"x")
    layer.add("names/with space, quotes ' \" and \\ backslash", data=b"x")
    layer.add("names/newline\nand\ttab", data=b"x")
    layer.add("names/ümläut ☃ 𝄞", data=b"x")
    for depth in range(1, 6):
        layer.directory("/".join(["names", *["d" * 100] * depth]))
    layer.add("/".join(["names", *["d" * 100] * 5, "deep"]), data=b"x")
    for number in range(300):
        layer.add(f"many/file-with-a-rather-long-name-{number:05}", data=b"%d" % number)
    layer.directory("gone/directory")
    for name in ("gone/file", "gone/directory/below", "opaque/old", "opaque/deep/old", "replaced/file-by-directory"):
        layer.add(name, data=b"old")
    layer.directory("replaced/directory-by-file")
    layer.add("replaced/directory-by-file/below", data=b"old")
    layer.directory("replaced/directory-by-link")
    return layer.tar()


def _second() -> bytes:
    layer = _Layer(tarfile.GNU_FORMAT)
    layer.directory("gone")
    layer.add("gone/.wh.file")
    layer.add("gone/.wh.directory")
    layer.directory("opaque", mode=0o700)
    layer.add("opaque/.wh..wh..opq")
    layer.add("opaque/new", data=b"new")
    layer.directory("replaced")
    layer.directory("replaced/file-by-directory", mode=0o711)
    layer.add("replaced/file-by-directory/below", data=b"new")
    layer.add("replaced/directory-by-file", data=b"now a file")
    layer.add("replaced/directory-by-link", tarfile.SYMTYPE, linkname="../files", mode=0o777)
    layer.directory("files", mode=0o750, uid=5, gid=6)
    layer.add("files/1", data=b"changed")
    layer.directory("names")
    layer.directory("names/" + "g" * 150)
    layer.add("names/" + "g" * 150 + "/" + "h" * 150, data=b"a GNU long name")
    layer.add("names/gnu-link", tarfile.SYMTYPE, linkname="/".join(["z" * 99] * 5), mode=0o777)
    layer.add("files/gnu-ids", data=b"x", uid=0o7777777 + 1, gid=0o7777777 + 2)
    return layer.tar()


def _third() -> bytes:
    layer = _Layer(tarfile.USTAR_FORMAT)
    layer.directory("opaque")
    layer.directory("opaque/deep")
    layer.add("opaque/deep/newer", data=b"newer")
    layer.directory("gone")
    layer.add("gone/file", data=b"back again")
    layer.directory("links")
    layer.add("links/.wh.hard-again")
    layer.directory("many")
    for number in range(0, 300, 3):
        layer.add(f"many/.wh.file-with-a-rather-long-name-{number:05}")
    layer.add("many/file-with-a-rather-long-name-00001", data=b"replaced")
    layer.directory("new")
    layer.directory("new/" + "u" * 80)
    layer.add("new/" + "u" * 80 + "/" + "v" * 90, data=b"split between name and prefix")
    return layer.tar()
