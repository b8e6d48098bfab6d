import pytest

from propolis.image.entries import clean


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"a/b", b"a/b"),
        (b"/a//b/", b"a/b"),
        (b"./a/./b", b"a/b"),
        (b"a/../b", b"b"),
        (b"/", b""),
        (b"", b""),
        (b"a/.b", b"a/.b"),
    ],
)
def test_names_are_cleaned(name, path):
    assert clean(name) == path
