import bz2
import gzip
import lzma
import struct

import pytest

from propolis.errors import KernelUnsuitable
from propolis.guest import vmlinuz
from propolis.spec import Architecture


@pytest.mark.parametrize("compress", [lzma.compress, gzip.compress, bz2.compress])
def test_the_kernel_inside_a_bzimage_comes_out(crafted, compress):
    plain = crafted.make_vmlinux()
    image = vmlinuz.read(crafted.make_bzimage(compress(plain), "6.1.0-56-amd64"), "vmlinuz")
    assert (image.data, image.architecture, image.release) == (plain, Architecture.X86_64, "6.1.0-56-amd64")


@pytest.mark.parametrize(
    "payload",
    [b"\x02\x21\x4c\x18lz4 legacy", b"\x89LZO", lzma.compress(b"not ELF")],
    ids=["lz4", "lzo", "not a kernel"],
)
def test_a_bzimage_that_only_it_can_unpack_stays_as_it_is(crafted, payload):
    whole = crafted.make_bzimage(payload)
    assert vmlinuz.read(whole, "vmlinuz").data == whole


def test_a_kernel_without_direct_entry_stays_a_bzimage(crafted):
    whole = crafted.make_bzimage(lzma.compress(crafted.make_vmlinux(notes=b"")))
    assert vmlinuz.read(whole, "vmlinuz").data == whole


def test_zero_setup_sectors_mean_four(crafted):
    whole = bytearray(crafted.make_bzimage(lzma.compress(crafted.make_vmlinux()), setup_sectors=4))
    whole[0x1F1] = 0
    assert vmlinuz.read(bytes(whole), "vmlinuz").data.startswith(b"\x7fELF")


def test_an_arm64_image_is_unpacked_and_recognised(crafted):
    plain = crafted.make_arm64_image("6.12.5")
    packed = gzip.compress(plain)
    zboot = b"MZ\0\0zimg" + struct.pack("<II", 64, len(packed)) + bytes(48) + packed
    for file in (plain, packed, zboot):
        image = vmlinuz.read(file, "Image")
        assert (image.data, image.architecture, image.release) == (plain, Architecture.AARCH64, "6.12.5")


def test_an_uncompressed_kernel_is_taken_as_it_is(crafted):
    plain = crafted.make_vmlinux(release="6.6.1")
    assert vmlinuz.read(plain, "vmlinux") == vmlinuz.Image(plain, Architecture.X86_64, "6.6.1")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (b"", "it is empty"),
        (b"#!/bin/sh\necho hello\n" * 40, "it is text"),
        (b"070701" + bytes(600), "an initrd"),
        (b"MZ" + bytes(600), "an EFI program"),
        (bytes(600), "unknown format"),
        (gzip.compress(b"text"), "it is text"),
        (gzip.compress(b"text" * 100)[:20], "truncated"),
    ],
)
def test_other_files_are_refused_and_guessed_at(file, message):
    with pytest.raises(KernelUnsuitable, match=message):
        vmlinuz.read(file, "/x/file")


def test_an_elf_program_is_no_kernel(crafted):
    with pytest.raises(KernelUnsuitable, match="entered directly"):
        vmlinuz.read(crafted.make_vmlinux(notes=b""), "busybox")
    with pytest.raises(KernelUnsuitable, match="not of an x86_64"):
        vmlinuz.read(crafted.make_vmlinux(machine=183), "busybox")


def test_no_truncation_escapes(crafted):
    whole = crafted.make_bzimage(lzma.compress(crafted.make_vmlinux()))
    for length in range(0, len(whole), 7):
        try:
            vmlinuz.read(whole[:length], "vmlinuz")
        except KernelUnsuitable:
            continue
        assert length >= len(whole) - 32  # only what follows the payload may be missing
