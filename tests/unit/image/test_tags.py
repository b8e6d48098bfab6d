import pytest

from propolis.errors import DiskError
from propolis.image.tags import TagRecords

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def test_a_name_names_what_it_named_last(tmp_path):
    records = TagRecords(tmp_path / "tags")
    assert records.digest("a.b/x:v") is None
    records.keep("a.b/x:v", ONE)
    records.keep("a.b/x:w", TWO)
    assert TagRecords(tmp_path / "tags").digest("a.b/x:v") == ONE
    records.keep("a.b/x:v", TWO)
    assert records.digest("a.b/x:v") == TWO
    assert len(list((tmp_path / "tags").iterdir())) == 2


def test_what_is_known_already_is_not_written_again(tmp_path):
    records = TagRecords(tmp_path)
    records.keep("x", ONE)
    (path,) = tmp_path.iterdir()
    before = path.stat().st_ino
    records.keep("x", ONE)
    assert path.stat().st_ino == before


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 70_000,
        b'{"name": "x"}',
        b'{"name": "x", "digest": 7}',
        b'{"name": "x", "digest": "sha256:../.."}',
        b'{"name": "y", "digest": "%s"}' % ONE.encode(),
    ],
)
def test_a_damaged_record_is_none(tmp_path, data):
    records = TagRecords(tmp_path)
    records.keep("x", ONE)
    (path,) = tmp_path.iterdir()
    path.write_bytes(data)
    assert records.digest("x") is None
    records.keep("x", TWO)
    assert records.digest("x") == TWO


def test_one_that_cannot_be_read_is_told(tmp_path):
    records = TagRecords(tmp_path)
    records.keep("x", ONE)
    (path,) = tmp_path.iterdir()
    path.unlink()
    path.mkdir()
    with pytest.raises(DiskError, match="cannot read"):
        records.digest("x")
