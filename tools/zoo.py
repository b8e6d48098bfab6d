"""An image of oddities: every kind of entry, every way to write it into a tar, every way for layers to disagree.

Made with Python's tarfile, so that what reads it did not write it. What umoci cannot unpack is left to other tests.
"""

import io
import random
import tarfile
from pathlib import Path

from propolis.testing.images import write_layout

_TIME = 1_700_000_000
_CAPABILITY = bytes([1, 0, 0, 2, 0, 32, *[0] * 14]).decode("latin-1")
"""CAP_NET_RAW, effective; all of it ASCII, as tarfile wants text."""


class _Layer:
    """One layer's tar, entry by entry."""

    def __init__(self, tar_format: int) -> None:
        self._buffer = io.BytesIO()
        self._format = tar_format
        self._tar = tarfile.open(  # noqa: SIM115 - closed by `tar`
            fileobj=self._buffer, mode="w", format=tar_format, errors="surrogateescape"
        )

    def add(self, name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **attributes: object) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.size, entry.mtime, entry.mode = kind, len(data), _TIME, 0o644
        for attribute, value in attributes.items():
            setattr(entry, attribute, value)
        self._tar.addfile(entry, io.BytesIO(data))

    def directory(self, name: str, **attributes: object) -> None:
        self.add(name, tarfile.DIRTYPE, **({"mode": 0o755} | attributes))

    def old_sparse(self, name: str, size: int, extents: list[tuple[int, bytes]]) -> None:
        """A sparse file as GNU tar wrote them before PAX: four extents in the header, more in blocks behind it."""
        entry = tarfile.TarInfo(name)
        entry.type, entry.size, entry.mtime = tarfile.GNUTYPE_SPARSE, sum(len(data) for _, data in extents), _TIME
        header = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
        # a map ends where the file does, also if that is in a hole
        numbers = [b"%011o\0%011o\0" % (offset, len(data)) for offset, data in [*extents, (size, b"")]]
        header[386 : 386 + 96] = b"".join(numbers[:4]).ljust(96, b"\0")
        header[482:495] = (b"\1" if numbers[4:] else b"\0") + b"%011o\0" % size
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        blocks = [b"".join(numbers[at : at + 21]).ljust(504, b"\0") for at in range(4, len(numbers), 21)]
        for number, block in enumerate(blocks, 1):
            header += (block + (b"\1" if number < len(blocks) else b"\0")).ljust(512, b"\0")
        content = b"".join(data for _, data in extents)
        self._buffer.write(bytes(header) + content + bytes(-len(content) % 512))

    def tar(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


def image(directory: Path) -> str:
    """Write the image as an OCI layout; returns its reference."""
    write_layout(directory, [first_layer(), _second(), _third()], config={"Cmd": ["sh"]}, tag="latest")
    return f"oci:{directory}:latest"


def first_layer() -> bytes:
    """The lowest layer's tar, which has no whiteouts."""
    layer = _Layer(tarfile.PAX_FORMAT)
    chance = random.Random(1)
    layer.directory("./", mode=0o755)
    for name in ("files", "links", "gone", "opaque", "opaque/deep", "replaced", "types", "names", "many", "twice"):
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
    _types(layer)
    _names(layer)
    for number in range(300):
        layer.add(f"many/file-with-a-rather-long-name-{number:05}", data=b"%d" % number)
    layer.add("links/not-text", tarfile.SYMTYPE, linkname="\udcff\udcfe", mode=0o777)
    _sparse(layer, chance)
    _said_twice(layer)
    layer.add("links/for-another-layer", data=b"a file that a layer above links to")
    layer.add("links/way", tarfile.SYMTYPE, linkname="../new-below", mode=0o777)
    layer.directory("new-below")
    for name in ("late-opaque", "anew"):
        layer.directory(name)
        layer.add(f"{name}/old", data=b"old")
    layer.add("gone/replaced-at-once", data=b"old")
    layer.directory("gone/directory")
    for name in ("gone/file", "gone/directory/below", "opaque/old", "opaque/deep/old", "replaced/file-by-directory"):
        layer.add(name, data=b"old")
    layer.directory("replaced/directory-by-file")
    layer.add("replaced/directory-by-file/below", data=b"old")
    layer.directory("replaced/directory-by-link")
    return layer.tar()


def _types(layer: _Layer) -> None:
    layer.add("types/character", tarfile.CHRTYPE, devmajor=1, devminor=3)
    layer.add("types/block", tarfile.BLKTYPE, devmajor=259, devminor=300)
    layer.add("types/large-minor", tarfile.CHRTYPE, devmajor=10, devminor=1_000_000)
    layer.add("types/fifo", tarfile.FIFOTYPE)
    layer.directory("types/setgid-directory", mode=0o2755)
    layer.directory("types/sticky-directory", mode=0o1777, pax_headers={"SCHILY.xattr.user.of-a-directory": "1"})
    layer.add("types/capable", data=b"x", mode=0o755, pax_headers={"SCHILY.xattr.security.capability": _CAPABILITY})


def _names(layer: _Layer) -> None:
    layer.add("names/" + "n" * 255, data=b"x")
    layer.add("names/with space, quotes ' \" and \\ backslash", data=b"x")
    layer.add("names/newline\nand\ttab", data=b"x")
    layer.add("names/ümläut ☃ 𝄞", data=b"x")
    for depth in range(1, 6):
        layer.directory("/".join(["names", *["d" * 100] * depth]))
    layer.add("/".join(["names", *["d" * 100] * 5, "deep"]), data=b"x")
    layer.add("names/not-\udcff\udcfe-text", data=b"x")


def _sparse(layer: _Layer, chance: random.Random) -> None:
    """A sparse file in each of the three ways that PAX knows; extents are of whole blocks, as GNU tar has them."""
    parts = {0: chance.randbytes(4096), 1 << 20: chance.randbytes(512), 3 << 20: chance.randbytes(70_000)}
    size = 8 << 20
    numbers = [number for offset, data in parts.items() for number in (offset, len(data))] + [size, 0]
    data = b"".join(parts.values())
    text = ",".join(map(str, numbers))
    # tarfile sorts no headers and joins none, so that the first way, which repeats its keys, is told by one extent
    one = {"GNU.sparse.size": str(8192 + 4096), "GNU.sparse.numblocks": "1"}
    layer.add(
        "files/sparse-0.0",
        data=parts[0],
        pax_headers=one | {"GNU.sparse.offset": "8192", "GNU.sparse.numbytes": "4096"},
    )
    layer.add(
        "files/GNUSparseFile.0/sparse-0.1",
        data=data,
        pax_headers={
            "GNU.sparse.name": "files/sparse-0.1", "GNU.sparse.size": str(size), "GNU.sparse.numblocks": "4",
            "GNU.sparse.map": text,
        },
    )  # fmt: skip
    table = "".join(f"{number}\n" for number in (len(numbers) // 2, *numbers)).encode()
    layer.add(
        "files/GNUSparseFile.0/sparse-1.0",
        data=table + bytes(-len(table) % 512) + data,
        pax_headers={
            "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "files/sparse-1.0",
            "GNU.sparse.realsize": str(size),
        },
    )  # fmt: skip


def _said_twice(layer: _Layer) -> None:
    """What one layer says more than once: the last counts."""
    layer.add("twice/file", data=b"the first, and longer")
    layer.add("twice/file", data=b"the second")
    layer.add("twice/linked", data=b"the first")
    layer.add("twice/link-to-the-first", tarfile.LNKTYPE, linkname="twice/linked")
    layer.add("twice/linked", data=b"the second")
    layer.add("twice/link-to-the-second", tarfile.LNKTYPE, linkname="twice/linked")
    layer.directory("twice/directory", mode=0o700)
    layer.add("twice/directory/inside", data=b"stays")
    layer.directory("twice/directory", mode=0o711, uid=7)
    layer.add("twice/link-then-file", tarfile.SYMTYPE, linkname="file", mode=0o777)
    layer.add("twice/link-then-file", data=b"a file")


def old_sparse_layer() -> bytes:
    """Sparse files as GNU tar wrote them before PAX, which umoci does not read."""
    layer = _Layer(tarfile.GNU_FORMAT)
    layer.directory("files")
    layer.old_sparse("files/two-extents", 1 << 20, [(0, b"a" * 512), (1 << 19, b"b" * 1000)])
    layer.old_sparse("files/fifty-extents", 8 << 20, [(number << 17, b"%05d" % number * 1024) for number in range(50)])
    layer.old_sparse("files/a-hole", 1 << 20, [])
    layer.add("files/behind", data=b"x")
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
    layer.add("names/gnu-not-\udcff\udcfe-text", data=b"x")
    layer.directory("links")
    layer.add("links/to-a-lower-layer", tarfile.LNKTYPE, linkname="links/for-another-layer")
    layer.add("links/way/through-a-link", data=b"in new-below")
    layer.directory("new-below")
    layer.directory("late-opaque")
    layer.add("late-opaque/new", data=b"new")
    layer.add("late-opaque/.wh..wh..opq")
    layer.add(".wh.anew")
    layer.directory("anew")
    layer.add("anew/new", data=b"new")
    layer.add("gone/.wh.replaced-at-once")
    layer.add("gone/replaced-at-once", data=b"new")
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
