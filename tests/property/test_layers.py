"""Random trees, written by Python's own tarfile in its three formats, come out as they went in."""

import io
import tarfile

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from propolis.image.decompression import CHUNK
from propolis.image.layers import unpack
from propolis.image.tar import TarReader
from propolis.testing.images import describe_layer
from propolis.testing.trees import MemorySink
from propolis.tree import Kind

COMPONENTS = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40).filter(
    lambda text: text not in (".", "..") and not text.startswith(".wh.") and len(text.encode()) <= 255
)
PATHS = st.lists(COMPONENTS, min_size=1, max_size=6).map("/".join)
OWNERS = st.integers(0, 0xFFFFFFFE)
TYPES = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.CHRTYPE: Kind.CHARACTER,
    tarfile.BLKTYPE: Kind.BLOCK,
    tarfile.FIFOTYPE: Kind.FIFO,
}


@st.composite
def nodes(draw):
    info = tarfile.TarInfo(draw(PATHS))
    info.type = draw(st.sampled_from(list(TYPES)))
    info.mode = draw(st.integers(0, 0o7777))
    info.uid, info.gid = draw(OWNERS), draw(OWNERS)
    info.mtime = draw(st.integers(-(2**33), 2**33))  # what fits into 64 bits of nanoseconds
    content = b""
    if info.type == tarfile.REGTYPE:
        content = draw(st.binary(max_size=40)) * draw(st.sampled_from([1, 13, 512, CHUNK // 40]))
        info.size = len(content)
    elif info.type == tarfile.SYMTYPE:
        info.linkname = draw(PATHS)
    elif info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        info.devmajor, info.devminor = draw(st.integers(0, 4095)), draw(st.integers(0, 0xFFFFF))
    xattrs = draw(
        st.dictionaries(st.sampled_from(["user.a", "security.b", "trusted.c"]), st.text(max_size=9), max_size=2)
    )
    return info, content, xattrs


def archive(tree, kind):
    """The archive, and the nodes that the format could hold."""
    buffer, kept = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
        for info, content, xattrs in tree:
            info.pax_headers = {f"SCHILY.xattr.{name}": value for name, value in xattrs.items()}
            try:
                tar.addfile(info, io.BytesIO(content))
            except (ValueError, OverflowError):
                continue
            kept.append((info, content, xattrs if kind == tarfile.PAX_FORMAT else {}))
    return buffer.getvalue(), kept


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(nodes(), max_size=8), st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_every_tree_survives_every_format(tree, kind):
    data, kept = archive(tree, kind)
    sink = MemorySink()
    unpack(io.BytesIO(data), describe_layer(data), sink)
    sink.check()
    assert [
        (
            entry.kind,
            entry.path,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.mtime_ns,
            entry.link,
            entry.device,
            entry.xattrs,
        )
        for entry in sink.entries
    ] == [
        (
            TYPES[info.type],
            info.name.encode(),
            info.mode,
            info.uid,
            info.gid,
            info.mtime * 10**9,
            info.linkname.encode(),
            (info.devmajor, info.devminor),
            {name.encode(): value.encode() for name, value in xattrs.items()},
        )
        for info, _, xattrs in kept
    ]
    contents = {info.name.encode(): content for info, content, _ in kept if info.type == tarfile.REGTYPE}
    assert sink.contents == contents


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(nodes(), max_size=4), st.integers(1, 9))
def test_chunks_of_any_number_of_blocks_give_the_same_members(tree, blocks):
    data, _ = archive(tree, tarfile.PAX_FORMAT)

    def walk(size):
        file = io.BytesIO(data)
        reader, found = TarReader(lambda: memoryview(file.read(size)), "it"), []
        while (member := reader.next()) is not None:
            content = b""
            while reader.left:
                content += bytes(reader.piece())
            found.append((member, content))
        return found

    assert walk(blocks * 512) == walk(len(data))
