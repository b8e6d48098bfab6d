"""Kernel image files: what they are, which release, and the form that boots fastest.

Pure: bytes in, values out. Follows the kernel's Documentation/arch/x86/boot.rst (bzImage), arch/arm64/booting.rst
(Image) and drivers/firmware/efi/libstub/zboot-header.S (EFI zboot).

A compressed kernel decompresses itself in the guest, which takes twice as long as the rest of the boot where guest code
is emulated. So the image is decompressed here, once: to the `vmlinux` inside a bzImage where that can be
entered directly (PVH), to the plain `Image` on arm64.
"""

import re
import struct
from dataclasses import dataclass

from propolis.errors import KernelUnsuitable
from propolis.guest import compression, elf
from propolis.spec import Architecture

FILE_LIMIT = 512 << 20
"""Bytes, of an image as well as of what is inside; stock kernels have 10 and 70 MiB."""
_X86_BOOT_FLAG = (0x1FE, b"\x55\xaa")
_X86_MAGIC = (0x202, b"HdrS")
_X86_SETUP_SECTORS = 0x1F1
_X86_PROTOCOL = 0x206
_X86_VERSION_POINTER = 0x20E
_X86_PAYLOAD = struct.Struct("<II")
_X86_PAYLOAD_AT = 0x248
_X86_PAYLOAD_PROTOCOL = 0x208
_ARM64_MAGIC = (56, b"ARM\x64")
_ZBOOT_MAGIC = (4, b"zimg")
_ZBOOT_PAYLOAD = struct.Struct("<II")
_ZBOOT_PAYLOAD_AT = 8
_EM_X86_64 = 62
_BANNER = re.compile(rb"Linux version (\d[\w.+~-]{0,63})")
_RELEASE = re.compile(r"\d[\w.+~-]{0,63}")
_HINT = "name a Linux kernel image: vmlinuz of a distribution, bzImage or vmlinux for x86_64, Image for arm64"


@dataclass(frozen=True, slots=True)
class Image:
    """One kernel, ready to boot."""

    data: bytes
    architecture: Architecture
    release: str
    """As `uname -r` will say; empty when the image does not tell."""


def read(file: bytes, subject: str) -> Image:
    """Recognise a kernel image and bring it into the form that boots fastest.

    Raises:
        KernelUnsuitable: it is no kernel image, a damaged one, or one that we cannot boot.
    """
    if _has(file, _X86_BOOT_FLAG) and _has(file, _X86_MAGIC):
        return _read_bzimage(file, subject)
    if file.startswith(elf.MAGIC):
        return _read_vmlinux(file, subject)
    if _has(file, _ZBOOT_MAGIC):
        offset, length = _ZBOOT_PAYLOAD.unpack_from(file.ljust(64, b"\0"), _ZBOOT_PAYLOAD_AT)
        file = _inflate(file[offset : offset + length], subject)
    elif compression.is_compressed(file):
        file = _inflate(file, subject)
    if _has(file, _ARM64_MAGIC):
        return Image(file, Architecture.AARCH64, _release_by_banner(file))
    raise KernelUnsuitable(f"{subject} is not a kernel image that can be booted ({_guess(file)})", hint=_HINT)


def _read_bzimage(file: bytes, subject: str) -> Image:
    # a setup_sects of 0 means 4
    setup = ((file[_X86_SETUP_SECTORS] or 4) + 1) * 512
    if len(file) < setup:
        raise _truncated(subject)
    release = _bzimage_release(file)
    plain = _bzimage_payload(file, setup, subject)
    if plain is None or not plain.startswith(elf.MAGIC) or not elf.has_pvh_entry(plain, subject):
        return Image(file, Architecture.X86_64, release)
    return Image(elf.without_trailing_zeros(plain, subject), Architecture.X86_64, release)


def _bzimage_release(file: bytes) -> str:
    (pointer,) = struct.unpack_from("<H", file, _X86_VERSION_POINTER)
    if not pointer:
        return ""
    text = file[0x200 + pointer : 0x200 + pointer + 256].split(b"\0")[0].decode("ascii", "replace")
    found = _RELEASE.match(text)
    return found.group() if found else ""


def _bzimage_payload(file: bytes, setup: int, subject: str) -> bytes | None:
    """The kernel inside; None where its compression is none of ours, so that it has to unpack itself."""
    (protocol,) = struct.unpack_from("<H", file, _X86_PROTOCOL)
    if protocol < _X86_PAYLOAD_PROTOCOL:
        return None
    offset, length = _X86_PAYLOAD.unpack_from(file, _X86_PAYLOAD_AT)
    start = setup + offset
    if start + length > len(file):
        raise _truncated(subject)
    payload = file[start : start + length]
    return _inflate(payload, subject) if compression.is_compressed(payload) else None


def _read_vmlinux(file: bytes, subject: str) -> Image:
    (machine,) = struct.unpack_from("<H", file.ljust(64, b"\0"), 18)
    if machine != _EM_X86_64:
        raise KernelUnsuitable(f"{subject} is an ELF file, but not of an x86_64 kernel", hint=_HINT)
    if not elf.has_pvh_entry(file, subject):
        raise KernelUnsuitable(
            f"{subject} is an ELF file that cannot be entered directly: no kernel, or one without CONFIG_PVH",
            hint="name the bzImage (vmlinuz) of the same kernel instead",
        )
    return Image(elf.without_trailing_zeros(file, subject), Architecture.X86_64, _release_by_banner(file))


def _truncated(subject: str) -> KernelUnsuitable:
    return KernelUnsuitable(f"{subject} is truncated", hint="install the kernel package again")


def _inflate(data: bytes, subject: str) -> bytes:
    return compression.decompress(data, FILE_LIMIT, f"the kernel in {subject}")


def _release_by_banner(data: bytes) -> str:
    found = _BANNER.search(data)
    return found.group(1).decode("ascii") if found else ""


def _has(file: bytes, magic: tuple[int, bytes]) -> bool:
    offset, expected = magic
    return file[offset : offset + len(expected)] == expected


def _guess(file: bytes) -> str:
    if not file:
        return "it is empty"
    if file.startswith(b"MZ"):
        return "an EFI program, but not a kernel we know"
    if file.startswith((b"070701", b"070702")):
        return "it is a cpio archive: an initrd?"
    if b"\0" not in file[:512]:
        return "it is text"
    return "unknown format"
