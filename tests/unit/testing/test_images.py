from propolis.spec import Architecture
from propolis.testing.images import File, layer_tar, write_layout


def test_the_same_call_gives_the_same_image(tmp_path):
    tree = {"a": b"x", "b": File(content=b"y", mode=0o755)}
    one, other = (write_layout(tmp_path / name, [tree]) for name in ("one", "other"))
    assert one == other
    assert write_layout(tmp_path / "third", [tree], architecture=Architecture.AARCH64) != one


def test_a_tag_moves_to_the_newer_image(tmp_path):
    write_layout(tmp_path, [{"a": b"1"}])
    newer = write_layout(tmp_path, [layer_tar({"a": b"2"})])
    assert (tmp_path / "index.json").read_text().count("digest") == 1
    assert newer in (tmp_path / "index.json").read_text()
