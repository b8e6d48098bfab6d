import pytest

from propolis.guest import bundle
from propolis.guest.features import Ability
from propolis.spec import Architecture


def _store(directory, image=b"kernel" + bytes(300_000) + b"end"):
    return bundle.store(
        directory,
        release="6.1",
        architecture=Architecture.X86_64,
        source=bundle.Source.GIVEN,
        origin="/x",
        image=image,
        modules={"jbd2": b"one", "ext4": b"two", "hv_vmbus": b"three"},
        lists={"load": ["jbd2", "ext4"], "load.hyperv": ["hv_vmbus"]},
        abilities={Ability.HYPERV},
    )


def test_what_was_stored_is_found_again(tmp_path):
    stored = _store(tmp_path / "given-1")
    assert bundle.load(tmp_path / "given-1") == stored
    assert stored.image.read_bytes() == b"kernel" + bytes(300_000) + b"end"
    assert stored.abilities == {Ability.HYPERV}
    archive = stored.modules.read_bytes()
    assert all(part in archive for part in (b"modules/load\0", b"jbd2.ko\next4.ko\n"))
    assert all(part in archive for part in (b"modules/load.hyperv\0", b"\0hv_vmbus.ko\n"))


def test_the_same_content_has_the_same_identity(tmp_path):
    assert _store(tmp_path / "a").identity == _store(tmp_path / "b").identity
    assert _store(tmp_path / "c", b"other").identity != _store(tmp_path / "d").identity


@pytest.mark.parametrize("file", [bundle.IMAGE, bundle.MODULES, bundle.MANIFEST])
def test_a_bundle_that_lacks_a_file_is_none_and_is_made_again(tmp_path, file):
    stored = _store(tmp_path / "given-1")
    (tmp_path / "given-1" / file).unlink()
    assert bundle.load(tmp_path / "given-1") is None
    assert _store(tmp_path / "given-1") == stored


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 999}'])
def test_a_strange_manifest_is_no_bundle(tmp_path, text):
    _store(tmp_path / "given-1")
    (tmp_path / "given-1" / bundle.MANIFEST).write_text(text)
    assert bundle.load(tmp_path / "given-1") is None


def test_what_a_dead_writer_left_is_cleared(tmp_path):
    (tmp_path / ".staged-dead-0123456789ab").mkdir()
    with bundle.exclusive(tmp_path):
        assert not (tmp_path / ".staged-dead-0123456789ab").exists()


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        _store(tmp_path / "given-1", image=None)
    assert not list(tmp_path.iterdir())
