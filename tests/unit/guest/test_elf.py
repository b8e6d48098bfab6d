import struct

import pytest

from propolis.errors import KernelUnsuitable
from propolis.guest import elf


def _signed(module):
    signature = b"PKCS" * 8
    return module + signature + bytes(8) + len(signature).to_bytes(4, "big") + b"~Module signature appended~\n"


def test_dependencies_are_read_from_the_module(crafted):
    module = crafted.make_module("license=GPL\0softdep=pre: crypto-crc32c a-b post: late\0depends=jbd2,t10-pi\0name=x")
    info = elf.module_info(module, "x")
    assert info.depends == ("jbd2", "t10_pi")
    assert info.soft == ("crypto_crc32c", "a_b")


def test_what_comes_after_is_no_dependency(crafted):
    assert elf.module_info(crafted.make_module("softdep=post: late\0depends="), "x").soft == ()


def test_the_signature_goes_and_nothing_else(crafted):
    module = crafted.make_module("depends=")
    assert elf.without_signature(_signed(module)) == module
    assert elf.without_signature(module) == module


def test_a_lying_signature_length_removes_nothing(crafted):
    broken = crafted.make_module("depends=") + b"\xff" * 12 + b"~Module signature appended~\n"
    assert elf.without_signature(broken) == broken


def test_no_truncation_of_a_module_escapes(crafted):
    module = crafted.make_module("depends=jbd2")
    for length in range(len(module)):
        with pytest.raises(KernelUnsuitable):
            elf.module_info(module[:length], "ext4.ko")


def test_an_elf_file_without_modinfo_is_no_module(crafted):
    with pytest.raises(KernelUnsuitable, match="not a kernel module"):
        elf.module_info(crafted.make_module("depends=").replace(b".modinfo", b".mudinfo"), "x.ko")


def test_other_files_are_told_apart():
    with pytest.raises(KernelUnsuitable, match="not a 64-bit"):
        elf.module_info(b"\x7fELF\x01\x01".ljust(64, b"\0"), "x.ko")


def test_the_direct_entry_is_found_among_the_notes(crafted):
    other = b"\x04\0\0\0\x04\0\0\0\x06\0\0\0Xen\0\0\0\0\0"
    assert elf.has_pvh_entry(crafted.make_vmlinux(other + crafted.XEN_ENTRY_NOTE), "vmlinux")
    assert not elf.has_pvh_entry(crafted.make_vmlinux(other), "vmlinux")
    assert not elf.has_pvh_entry(crafted.make_vmlinux(b"\xff" * 40), "vmlinux")


def test_zeros_at_the_end_of_a_segment_are_left_to_the_loader():
    content = b"code" + bytes(9000) + b"data" + bytes(50_000)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 120, 0, 0, len(content), 80_000, 4096)
    kernel = elf.without_trailing_zeros(header + segment + content, "vmlinux")
    file_size, memory_size = struct.unpack_from("<QQ", kernel, 64 + 32)
    assert (file_size, memory_size) == (3 * 4096, 80_000)
    assert kernel[120:] == content
