import io
import subprocess
import sys
import tarfile

import pytest

from propolis.errors import ImageInvalid
from propolis.image.tar import BLOCK, TarReader, number, shown


def reader_of(data, chunk=4096):
    file = io.BytesIO(data)
    return TarReader(lambda: memoryview(file.read(chunk)), "it")


def members(data, chunk=4096):
    reader = reader_of(data, chunk)
    found = []
    while (member := reader.next()) is not None:
        content = b""
        while reader.left:
            content += bytes(reader.piece())
        found.append((member, content))
    return found


def archive(*items, format=tarfile.GNU_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, content, fields in items:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def with_header(data, position, field):
    """`data` with bytes of its first header replaced and the checksum put right."""
    header = bytearray(data[:BLOCK])
    header[position : position + len(field)] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[BLOCK:]


SIMPLE = archive(("a", b"content", {"mode": 0o4755, "uid": 1, "gid": 2, "mtime": 3}))


@pytest.mark.parametrize("chunk", [512, 1024, 4096, 1 << 18])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_content_of_every_size_survives_every_chunking(format, chunk):
    sizes = [0, 1, 511, 512, 513, 1023, 1024, 4096, 5000]
    data = archive(*((f"file{size}", bytes([size % 251]) * size, {}) for size in sizes), format=format)
    assert [(member.name, content) for member, content in members(data, chunk)] == [
        (b"file%d" % size, bytes([size % 251]) * size) for size in sizes
    ]


def test_content_not_taken_is_skipped_also_by_seeking():
    data = archive(("a", b"x" * 100_000, {}), ("b", b"y" * 3, {}), ("c", b"z" * 512, {}))
    assert [m.name for m in iter(reader_of(data, 512).next, None)] == [b"a", b"b", b"c"]
    file = io.BytesIO(data)
    reader = TarReader(lambda: memoryview(file.read(4096)), "it", seek=lambda length: file.seek(length, 1))
    offsets = {}
    while (member := reader.next()) is not None:
        offsets[member.name] = data[reader.offset : reader.offset + 1]
    assert offsets == {b"a": b"x", b"b": b"y", b"c": b"z"}


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_links(format):
    name, link = "d/" * 100 + "n" * 200, "l" * 300
    data = archive((name, b"", {"type": tarfile.SYMTYPE, "linkname": link}), ("b", b"", {}), format=format)
    (first, _), (second, _) = members(data, 512)
    assert (first.name, first.link) == (name.encode(), link.encode())
    assert (second.name, second.link) == (b"b", b"")


def test_prefix_is_part_of_a_ustar_name_only():
    name = "p" * 120 + "/" + "n" * 90
    assert members(archive((name, b"", {}), format=tarfile.USTAR_FORMAT))[0][0].name == name.encode()
    gnu = with_header(SIMPLE, 345, b"17777777777\0")  # atime stands there
    assert members(gnu)[0][0].name == b"a"
    star = with_header(archive(("a", b"", {}), format=tarfile.USTAR_FORMAT), 345, b"p" + bytes(130) + b"13000000000\0")
    assert members(with_header(star, 508, b"tar\0"))[0][0].name == b"p/a"


def test_numbers_too_large_for_octal():
    fields = {"uid": 3_000_000_000, "gid": 4_000_000_000, "mtime": -5}
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        (member, _), *_ = members(archive(("a", b"", fields), format=kind))
        assert (member.uid, member.gid, member.mtime_ns) == (3_000_000_000, 4_000_000_000, -5 * 10**9)


def test_fractions_of_a_second():
    data = archive(("a", b"", {"mtime": -1.25}), ("b", b"", {"mtime": 1.5}), format=tarfile.PAX_FORMAT)
    assert [member.mtime_ns for member, _ in members(data)] == [-1_250_000_000, 1_500_000_000]


def test_a_time_beyond_64_bits_is_clamped():
    data = with_header(SIMPLE, 136, b"\x80" + b"\x7f" * 11)
    assert members(data)[0][0].mtime_ns == (1 << 63) - 1


def test_v7_headers_and_blank_padded_numbers():
    data = with_header(with_header(SIMPLE, 257, bytes(8)), 100, b" 4755 \0 ")
    assert members(data)[0][0].mode == 0o4755


def test_global_headers_change_nothing():
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"path": "bad", "uid": "7"}
    ) as tar:
        tar.addfile(tarfile.TarInfo("good"))
    ((member, _),) = members(buffer.getvalue())
    assert (member.name, member.uid) == (b"good", 0)


def test_sizes_of_links_and_directories_are_ignored():
    link = archive(("l", b"", {"type": tarfile.LNKTYPE, "linkname": "a"}))
    data = with_header(link, 124, b"00000000100\0")[:BLOCK] + SIMPLE
    assert [(member.name, content) for member, content in members(data)] == [(b"l", b""), (b"a", b"content")]


def test_signed_checksums_of_old_writers_are_taken():
    name = "\u00e4".encode() * 4
    header = bytearray(with_header(SIMPLE, 0, name)[:BLOCK])
    signed = sum(memoryview(bytes(header)).cast("b")) - sum(header[148:156]) + 8 * 32
    header[148:156] = b"%06o\0 " % signed
    assert members(bytes(header) + SIMPLE[BLOCK:])[0][0].name == name


def test_an_archive_may_end_without_blocks_of_zeros():
    assert len(members(SIMPLE[: 2 * BLOCK])) == 1
    assert len(members(SIMPLE[: 3 * BLOCK])) == 1
    assert members(b"") == []


@pytest.mark.parametrize("cut", [1, 511, 513, 518, 1023])
def test_a_truncated_archive_names_the_entry_it_ends_in(cut):
    with pytest.raises(ImageInvalid, match="it is truncated: it ends .*" + ("'a'" if cut > BLOCK else "first entry")):
        members(SIMPLE[:cut])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"x" * 1024, "not a tar archive"),
        (SIMPLE[:1024] + b"x" * 512, "at entry 'a': the next header has a wrong checksum"),
        (SIMPLE[:1024] + bytes(512) + SIMPLE, "single block of zeros"),
        (with_header(SIMPLE, 124, b"9999999999\0"), "invalid literal"),
        (with_header(SIMPLE, 124, b"\xff" * 12), "size of -1 bytes"),
        (with_header(SIMPLE, 124, b"\x80" + b"\x7f" * 11), "is not possible"),
        (with_header(SIMPLE, 108, b"\xff" * 8), "owner is negative"),
        (with_header(SIMPLE, 108, b"0o17\0\0\0\0"), "not a number"),
        (with_header(with_header(SIMPLE, 156, b"x"), 124, b"10000000000\0"), "claims 1073741824 bytes"),
        (with_header(SIMPLE, 156, b"L")[:1024], "truncated"),
        (with_header(SIMPLE, 156, b"x"), "record"),
    ],
)
def test_broken_headers_are_refused(data, message):
    with pytest.raises(ImageInvalid, match=message):
        members(data)


@pytest.mark.parametrize(
    "options", [["--format=gnu"], *(["--format=pax", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0"))]
)
@pytest.mark.parametrize("chunk", [512, 1 << 18])
@pytest.mark.skipif(sys.platform == "win32", reason="needs GNU tar and holes")
def test_sparse_files_of_every_kind(tmp_path, options, chunk):
    size = 3 << 20
    expected = bytearray(size)
    with (tmp_path / "sparse").open("wb") as file:
        for number in range(30):
            offset = number * 100_000 + 4096
            piece = bytes([number + 1]) * 4096
            file.seek(offset)
            file.write(piece)
            expected[offset : offset + 4096] = piece
        file.truncate(size)
    data = subprocess.run(["tar", "-cS", *options, "-C", tmp_path, "sparse"], capture_output=True, check=True).stdout
    if len(data) > size:
        pytest.skip("the file system of the test directory keeps no holes")
    ((member, content),) = members(data, chunk)
    assert (member.name, member.size) == (b"sparse", size)
    rebuilt = bytearray(size)
    for offset, length in member.extents:
        rebuilt[offset : offset + length], content = content[:length], content[length:]
    assert rebuilt == expected
    assert content == b""


def test_names_are_shown_safely():
    assert shown(b"a\x1b[31m\xff\n") == "'a\\x1b[31m\\\\xff\\n'"
    assert len(shown(b"x" * 5000)) < 300


@pytest.mark.parametrize(
    ("field", "value"), [(b"\0" * 8, 0), (b"0000644\0", 0o644), (b"   644 \0", 0o644), (b"644\0junk", 0o644)]
)
def test_numbers_are_octal_between_blanks(field, value):
    assert number(field) == value


def test_a_name_ends_at_its_first_nul_also_in_a_full_field():
    (found,) = members(with_header(SIMPLE, 0, b"ab\0" + b"c" * 97))
    assert found[0].name == b"ab"
