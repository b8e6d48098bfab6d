import pytest

from propolis.errors import KernelUnsuitable
from propolis.guest import features, package


def _write(path, data):
    path.write_bytes(data)
    return path


def test_a_kernel_comes_out_with_the_modules_it_needs(tmp_path, crafted, kernel_files):
    unpacked = package.read([_write(tmp_path / "k.deb", crafted.make_deb(kernel_files))], features.MODULES)
    assert unpacked.release == "6.1.0-test"
    assert unpacked.config == crafted.MODULAR_CONFIG
    assert unpacked.builtin == {"binfmt_script"}
    assert not unpacked.resolution.missing
    needless = {"snd_unneeded", *_names(crafted, "hv", "9p", "vsock", "scsi_transport")}
    assert set(unpacked.resolution.modules) == _names(crafted, "") - needless
    assert unpacked.resolution.closure(["virtio-scsi"]) == ("virtio_ring", "virtio", "scsi_mod", "virtio_scsi")


def _names(crafted, *beginnings):
    return {name.replace("-", "_") for name in crafted.DEPENDENCIES if name.startswith(beginnings)}


def test_a_dependency_nobody_thought_of_is_found_by_another_pass(tmp_path, crafted, kernel_files):
    tree = "lib/modules/6.1.0-test/kernel"
    first = {
        f"{tree}/deepest.ko": crafted.make_module("depends="),
        f"{tree}/deep.ko": crafted.make_module("depends=deepest"),
    }
    kernel_files[f"{tree}/drivers/overlay.ko"] = crafted.make_module("depends=deep")
    archive = _write(tmp_path / "k.deb", crafted.make_deb(first | kernel_files))
    assert list(package.read([archive], ["overlay"]).resolution.modules) == ["deepest", "deep", "overlay"]


def test_image_and_modules_may_be_in_packages_of_their_own(tmp_path, crafted, kernel_files):
    image = {path: data for path, data in kernel_files.items() if "vmlinuz" in path}
    rest = {f"usr/{path}": data for path, data in kernel_files.items() if path not in image}
    archives = [_write(tmp_path / "i.deb", crafted.make_deb(image)), _write(tmp_path / "m.deb", crafted.make_deb(rest))]
    assert "ext4" in package.read(archives, features.MODULES).resolution.modules


def test_a_package_without_a_kernel_is_named(tmp_path, crafted):
    with pytest.raises(KernelUnsuitable, match=r"no kernel in other\.deb"):
        package.read([_write(tmp_path / "other.deb", crafted.make_deb({"etc/motd": b"hi"}))], ["ext4"])
