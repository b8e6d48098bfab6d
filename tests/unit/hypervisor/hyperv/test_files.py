import pytest

from propolis.hypervisor.hyperv import files

REFUSED = [
    (r"\\server\share\disk.vhdx", r"\\server\share\disk.vhdx", "network"),
    (r"X:\disk.vhdx", r"\\server\share\disk.vhdx", "network"),
    (r"X:\disk.vhdx", r"\\?\UNC\server\share\disk.vhdx", "network"),
    (r"\\?\C:\disk.vhdx", r"C:\disk.vhdx", "prefix"),
    (r"\\.\PhysicalDrive0", r"\\.\PhysicalDrive0", "prefix"),
    (r"disk.vhdx", r"C:\disk.vhdx", "absolute"),
    (r"\disk.vhdx", r"C:\disk.vhdx", "absolute"),
    (r"C:disk.vhdx", r"C:\disk.vhdx", "absolute"),
    ("C:\\" + "x" * 257, "C:\\" + "x" * 257, "260 characters"),
]


@pytest.mark.parametrize(("path", "resolved", "words"), REFUSED)
def test_a_path_that_hyper_v_refuses_is_told_with_a_cure(path, resolved, words):
    reason, cure = files.objection_to_path(path, resolved)
    assert words in reason
    assert cure


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        (r"C:\disk.vhdx", r"C:\disk.vhdx"),
        (r"C:\Users\Jörg Ä\磁盘.vhdx", r"\\?\C:\Users\Jörg Ä\磁盘.vhdx"),
        ("Z:/tmp/disk.vhdx", "Z:\\tmp\\disk.vhdx"),
        ("C:\\" + "x" * 256, "C:\\" + "x" * 256),
    ],
)
def test_a_path_on_a_drive_of_this_host_is_fine(path, resolved):
    assert files.objection_to_path(path, resolved) is None


@pytest.mark.parametrize(
    ("attributes", "command"),
    [(0x220, "fsutil"), (0x820, "compact"), (0x4020, "cipher"), (0x4A20, "fsutil"), (0x8020, "Set-FileIntegrity")],
)
def test_a_file_that_is_not_stored_as_it_is_gets_the_command_that_mends_it(attributes, command):
    assert command in files.objection_to_attributes(attributes).cure


@pytest.mark.parametrize("attributes", [0x1020, 0x40020, 0x400020])
def test_a_file_that_lies_in_the_cloud_is_not_found_there(attributes):
    assert "keep" in files.objection_to_attributes(attributes).cure


def test_an_ordinary_file_is_fine():
    assert files.objection_to_attributes(0x20) is None
