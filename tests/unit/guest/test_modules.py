import gzip
import lzma

import pytest

from propolis.errors import KernelUnsuitable
from propolis.guest import modules
from propolis.guest.modules import ModuleTree, resolve

NONE = frozenset()


@pytest.fixture
def find(crafted):
    stored = {name.replace("-", "_"): crafted.make_module(info) for name, info in crafted.DEPENDENCIES.items()}
    return stored.get


def test_every_module_comes_after_what_it_needs(find):
    order = list(resolve(["ext4", "sd-mod", "virtio_scsi"], NONE, find).modules)
    assert order == [
        "crc32c_generic",
        "jbd2",
        "ext4",
        "scsi_mod",
        "t10_pi",
        "sd_mod",
        "virtio_ring",
        "virtio",
        "virtio_scsi",
    ]


def test_a_built_in_module_is_not_loaded(find):
    assert list(resolve(["ext4"], frozenset({"jbd2", "crc32c_generic"}), find).modules) == ["ext4"]


def test_a_missing_dependency_is_reported_a_missing_soft_one_is_not(find):
    resolution = resolve(["ext4"], NONE, lambda name: None if name in {"jbd2", "crc32c_generic"} else find(name))
    assert resolution.missing == {"jbd2"}


def test_a_cycle_ends(crafted):
    stored = {"a": crafted.make_module("depends=b"), "b": crafted.make_module("depends=a")}
    assert set(resolve(["a"], NONE, stored.get).modules) == {"a", "b"}


@pytest.mark.parametrize(("suffix", "compress"), [("", bytes), (".xz", lzma.compress), (".gz", gzip.compress)])
def test_a_tree_gives_modules_however_they_are_stored(tmp_path, crafted, suffix, compress):
    plain = crafted.make_module("depends=")
    (tmp_path / "kernel/fs").mkdir(parents=True)
    (tmp_path / f"kernel/fs/over-lay.ko{suffix}").write_bytes(compress(plain))
    (tmp_path / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\nkernel/lib/crc-16.ko\n")
    tree = ModuleTree.scan(tmp_path)
    assert tree.builtin == {"ext4", "crc_16"}
    assert resolve(["over_lay", "ext4"], tree.builtin, tree.find).modules == {"over_lay": plain}


def test_a_damaged_module_is_named(find):
    with pytest.raises(KernelUnsuitable, match="kernel module ext4"):
        resolve(["ext4"], NONE, lambda name: b"\xfd7zXZ\0rubbish")


def test_a_tree_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(KernelUnsuitable, match="absent"):
        ModuleTree.scan(tmp_path / "absent")


@pytest.mark.parametrize(
    ("file_name", "name"),
    [("sd_mod.ko", "sd_mod"), ("crc-t10dif.ko.zst", "crc_t10dif"), ("modules.dep", None), ("x.ko.lz4", None)],
)
def test_file_names_tell_modules(file_name, name):
    assert modules.module_name(file_name) == name
