import os
import shutil
import sys

import pytest

from propolis.errors import KernelNotFound, KernelUnsuitable
from propolis.guest import bundle, features, kernel
from propolis.guest.bundle import Source
from propolis.spec import Architecture

X86 = Architecture.X86_64


@pytest.fixture
def no_apt(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")


def _find(tmp_path, root):
    return kernel.find_kernel(tmp_path / "cache", X86, root=root)


def _given(tmp_path, path, architecture=X86):
    return kernel.given_kernel(path, tmp_path / "cache", architecture)


def test_the_installed_kernel_is_made_ready(tmp_path, installed, crafted):
    found = _find(tmp_path, installed)
    assert (found.release, found.source) == ("6.1.0-test", Source.INSTALLED)
    assert found.image.read_bytes() == crafted.make_vmlinux()
    assert set(features.MODULES) < set(found.module_names)
    assert found.module_names.index("jbd2") < found.module_names.index("ext4")


def test_modules_that_few_need_are_in_lists_of_their_own(tmp_path, installed):
    found = _find(tmp_path, installed)
    assert found.abilities == set(features.Ability)
    lists = _lists(found)
    assert set(lists) == {"load", "load.shares", "load.hyperv", "load.hyperv-shares"}
    assert not [name for name in lists["load"] if name.startswith(("hv_", "9p", "vsock"))]
    assert lists["load.shares"] == ["9pnet", "9pnet_virtio", "9p"]
    assert lists["load.hyperv"] == ["hv_vmbus", "scsi_transport_fc", "hv_storvsc", "vsock", "hv_sock", "hv_utils"]
    assert lists["load.hyperv-shares"] == ["9pnet", "9p", "9pnet_fd"]


def test_a_kernel_without_drivers_of_hyperv_is_good_for_other_guests(tmp_path, installed):
    (installed / "lib/modules/6.1.0-test/kernel/drivers/hv_storvsc.ko").unlink()
    found = _find(tmp_path, installed)
    assert found.abilities == {features.Ability.SHARES, features.Ability.HYPERV_SHARES}


def _lists(found):
    archive = found.modules.read_bytes()
    lists = {}
    for name in (b"load", b"load.shares", b"load.hyperv", b"load.hyperv-shares"):
        start = archive.index(b"modules/" + name + b"\0")
        content = archive[start + len(name) + 8 : archive.index(b"07070", start)]
        lists[name.decode()] = content.strip(b"\0").decode().replace(".ko", "").split()
    return lists


@pytest.mark.parametrize(("setting", "kept"), [("", False), ("CONFIG_MODULE_SIG_FORCE=y\n", True)])
def test_signatures_stay_only_where_the_kernel_insists(tmp_path, installed, setting, kept):
    signature = b"PKCS7" + bytes(8) + (5).to_bytes(4, "big") + b"~Module signature appended~\n"
    with (installed / "lib/modules/6.1.0-test/kernel/drivers/overlay.ko").open("ab") as file:
        file.write(signature)
    with (installed / "boot/config-6.1.0-test").open("a") as file:
        file.write("\n" + setting)
    assert (signature in _find(tmp_path, installed).modules.read_bytes()) == kept


def test_the_second_time_it_comes_from_the_cache(tmp_path, installed):
    first = _find(tmp_path, installed)
    shutil.rmtree(installed / "lib")
    assert _find(tmp_path, installed) == first


def test_an_updated_kernel_replaces_the_old_bundle_once_that_is_out_of_use(tmp_path, installed, crafted):
    old = _find(tmp_path, installed)
    os.utime(old.image.parent / bundle.MANIFEST, (0, 0))
    (installed / "boot/vmlinuz-6.1.0-test").write_bytes(crafted.make_vmlinux(release="6.1.0-test2"))
    new = _find(tmp_path, installed)
    assert new.identity != old.identity
    assert not old.image.exists()


def test_the_newest_release_wins_by_its_numbers(tmp_path, installed, crafted):
    for release in ("6.1.0-9-test", "6.1.0-56-test"):
        (installed / f"boot/vmlinuz-{release}").write_bytes(crafted.make_vmlinux(release=release))
        (installed / f"boot/config-{release}").write_text(crafted.SUITABLE_CONFIG)
    assert _find(tmp_path, installed).release == "6.1.0-56-test"


def test_an_unsuitable_kernel_is_passed_over(tmp_path, installed):
    (installed / "boot/vmlinuz-7.0.0").write_bytes(b"junk")
    (installed / "boot/config-7.0.0").write_text("CONFIG_EXT4_FS=y\n")
    assert _find(tmp_path, installed).release == "6.1.0-test"


def test_nothing_installed_and_no_apt_says_what_to_do(tmp_path, no_apt):
    with pytest.raises(KernelNotFound) as caught:
        _find(tmp_path, tmp_path / "empty")
    install = "propolis-kernel with pip" if sys.platform == "win32" else "apt-get install linux-image-amd64"
    assert install in caught.value.hint
    assert "--kernel" in caught.value.hint


@pytest.mark.usefixtures("no_apt")
def test_the_only_kernel_being_unsuitable_is_the_reason_given(tmp_path, installed):
    config = installed / "boot/config-6.1.0-test"
    config.write_text(config.read_text().replace("CONFIG_OVERLAY_FS=m", "# CONFIG_OVERLAY_FS is not set"))
    with pytest.raises(KernelUnsuitable, match=r"6\.1\.0-test cannot run guests, it lacks CONFIG_OVERLAY_FS"):
        _find(tmp_path, installed)


@pytest.mark.usefixtures("no_apt")
def test_a_dependency_that_is_not_there_is_the_reason_given(tmp_path, installed):
    (installed / "lib/modules/6.1.0-test/kernel/drivers/jbd2.ko").unlink()
    with pytest.raises(KernelUnsuitable, match="incomplete: jbd2 not found"):
        _find(tmp_path, installed)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_an_image_that_may_not_be_read_says_so(tmp_path, installed):
    image = installed / "boot/vmlinuz-6.1.0-test"
    image.chmod(0)
    with pytest.raises(KernelNotFound, match="may not be read") as caught:
        _given(tmp_path, image)
    assert "chmod" in caught.value.hint


def test_a_given_kernel_finds_its_modules_beside_it(tmp_path, installed):
    found = _given(tmp_path, installed / "boot/vmlinuz-6.1.0-test")
    assert (found.source, found.release) == (Source.GIVEN, "6.1.0-test")
    assert "overlay" in found.module_names


def test_a_given_kernel_with_everything_built_in_needs_no_modules(tmp_path, crafted):
    (tmp_path / "bzImage").write_bytes(crafted.make_vmlinux(release="6.1.0-tuned"))
    (tmp_path / "config-6.1.0-tuned").write_text(crafted.SUITABLE_CONFIG)
    assert _given(tmp_path, tmp_path / "bzImage").module_names == ()


def test_a_given_kernel_of_unknown_configuration_is_believed(tmp_path, crafted):
    (tmp_path / "vmlinux").write_bytes(crafted.make_vmlinux(release="6.1.0-own"))
    assert _given(tmp_path, tmp_path / "vmlinux").release == "6.1.0-own"


def test_a_modular_kernel_without_its_modules_is_refused(tmp_path, installed):
    shutil.rmtree(installed / "lib")
    with pytest.raises(KernelUnsuitable, match="the module ext4"):
        _given(tmp_path, installed / "boot/vmlinuz-6.1.0-test")


def test_a_replaced_file_is_noticed(tmp_path, crafted):
    path = tmp_path / "vmlinux"
    for release in ("6.1.1-own", "6.1.20-own"):
        path.write_bytes(crafted.make_vmlinux(release=release))
        assert _given(tmp_path, path).release == release


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("absent", KernelNotFound, "there is no kernel image"),
        (".", KernelUnsuitable, "is a directory"),
        ("text", KernelUnsuitable, "it is text"),
        ("arm", KernelUnsuitable, "for aarch64, not for x86_64"),
    ],
)
def test_what_is_no_kernel_for_this_guest_is_refused(tmp_path, crafted, name, error, message):
    (tmp_path / "text").write_text("hello\n")
    (tmp_path / "arm").write_bytes(crafted.make_arm64_image())
    with pytest.raises(error, match=message):
        _given(tmp_path, tmp_path / name)
    assert not [path for path in (tmp_path / "cache/kernels").iterdir() if path.name != ".lock"]
