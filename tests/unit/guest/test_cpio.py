import pytest

from propolis.errors import InvalidArgument
from propolis.guest import cpio


def test_the_bytes_are_those_of_the_format():
    written = cpio.archive([cpio.file("ab", b"hello", 0o755)])
    header = b"07070100000001000081ED0000000000000000000000010000000000000005"
    header += b"000000000000000000000000000000000000000300000000"
    assert written.startswith(header + b"ab\0\0\0\0" + b"hello\0\0\0" + b"070701")
    assert written.endswith(b"TRAILER!!!\0\0\0\0")


def test_a_device_carries_its_numbers_and_a_link_its_target():
    written = cpio.archive([cpio.character_device("dev/console", 5, 1), cpio.symlink("bin", "usr/bin")])
    assert b"00002180" in written
    assert b"0000000500000001" in written
    assert b"0000A1FF" in written
    assert b"bin\0\0\0usr/bin\0" in written


@pytest.mark.parametrize("name", ["a", "ab", "abc", "abcd", "abcde"])
@pytest.mark.parametrize("size", range(5))
def test_everything_starts_at_a_multiple_of_four(name, size):
    written = cpio.archive([cpio.file(name, b"x" * size), cpio.directory("d")])
    starts = [at for at in range(len(written)) if written[at : at + 6] == b"070701"]
    assert len(starts) == 3
    assert not [at for at in (*starts, len(written)) if at % 4]


def test_the_same_members_are_the_same_bytes():
    members = [cpio.directory("a"), cpio.file("a/b", b"c")]
    assert cpio.archive(members) == cpio.archive(list(members))


@pytest.mark.parametrize("path", ["", "/init", "a\0b", "x" * 4096])
def test_a_path_that_the_kernel_would_misread_is_refused(path):
    with pytest.raises(InvalidArgument):
        cpio.archive([cpio.directory(path)])
