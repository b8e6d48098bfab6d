"""What we ask of ELF files: a kernel module's `.modinfo`, and where an uncompressed x86 kernel wants to be entered.

Pure and bounded: every offset of the file is checked before it is followed. 64-bit little-endian files only, which is
what our architectures have. Follows elf(5), the kernel's include/linux/module.h and Xen's elfnote.h.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from propolis.errors import KernelUnsuitable

MAGIC = b"\x7fELF"
SIGNATURE_MARKER = b"~Module signature appended~\n"
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_NOTE = struct.Struct("<III")
_SIGNATURE = struct.Struct(">8xI")
_FILE_SIZE = struct.Struct("<Q")
_FILE_SIZE_AT = 32
_PAGE = 4096
_PT_LOAD = 1
_PT_NOTE = 4
_XEN_ELFNOTE_PHYS32_ENTRY = 18
_MODINFO_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """What a module says of itself; names as `normalise` has them."""

    depends: tuple[str, ...]
    """Modules whose symbols it uses."""
    soft: tuple[str, ...]
    """Modules, or their aliases, that it wants loaded before if they exist (`softdep=pre:`)."""


def normalise(name: str) -> str:
    """A module's name as the kernel has it: `-` and `_` are the same."""
    return name.replace("-", "_")


def module_info(module: bytes, subject: str) -> ModuleInfo:
    """Read `.modinfo` of an uncompressed module.

    Raises:
        KernelUnsuitable: `subject` is no module, or a damaged one.
    """
    depends: list[str] = []
    soft: list[str] = []
    for line in _section(module, b".modinfo", subject)[:_MODINFO_LIMIT].split(b"\0"):
        key, _, value = line.decode("utf-8", "replace").partition("=")
        if key == "depends":
            depends += [normalise(name) for name in value.split(",") if name]
        elif key == "softdep":
            # "pre: a b post: c"; what follows `post:` may come later or never
            before = value.partition("post:")[0]
            soft += [normalise(name) for name in before.replace("pre:", " ").split()]
    return ModuleInfo(tuple(depends), tuple(soft))


def without_signature(module: bytes) -> bytes:
    """The module without the signature that distributions append (kernel: scripts/sign-file.c)."""
    body = module.removesuffix(SIGNATURE_MARKER)
    if len(body) == len(module) or len(body) < _SIGNATURE.size:
        return module
    (length,) = _SIGNATURE.unpack_from(body, len(body) - _SIGNATURE.size)
    end = len(body) - _SIGNATURE.size - length
    return module[:end] if end > 0 else module


def has_pvh_entry(kernel: bytes, subject: str) -> bool:
    """Whether an uncompressed kernel can be entered directly, as a PVH guest is (CONFIG_PVH).

    Raises:
        KernelUnsuitable: the file is damaged.
    """
    header = _header(kernel, subject)
    offset, count = header[5], header[10]
    for index in range(count):
        kind, _, start, _, _, size, *_ = _unpack(_SEGMENT, kernel, offset + index * _SEGMENT.size, subject)
        if kind == _PT_NOTE and _XEN_ELFNOTE_PHYS32_ENTRY in _xen_notes(kernel[start : start + size]):
            return True
    return False


def without_trailing_zeros(kernel: bytes, subject: str) -> bytes:
    """An uncompressed kernel whose segments end in the file where their content ends; the loader zeroes the rest.

    A kernel's last segment carries some 20 MiB of zeros, which a loader would hold in memory as long as the machine
    runs.

    Raises:
        KernelUnsuitable: the file is damaged.
    """
    result = bytearray(kernel)
    header = _header(kernel, subject)
    offset, count = header[5], header[10]
    for index in range(count):
        at = offset + index * _SEGMENT.size
        kind, _, start, _, _, size, *_ = _unpack(_SEGMENT, kernel, at, subject)
        if kind == _PT_LOAD:
            used = len(kernel[start : start + size].rstrip(b"\0"))
            _FILE_SIZE.pack_into(result, at + _FILE_SIZE_AT, min(size, used + -used % _PAGE))
    return bytes(result)


def _xen_notes(notes: bytes) -> Iterator[int]:
    position = 0
    while position + _NOTE.size <= len(notes):
        name_size, content_size, kind = _NOTE.unpack_from(notes, position)
        position += _NOTE.size
        if notes[position : position + name_size] == b"Xen\0":
            yield kind
        position += (name_size + 3 & ~3) + (content_size + 3 & ~3)


def _section(image: bytes, name: bytes, subject: str) -> bytes:
    header = _header(image, subject)
    offset, count, names_index = header[6], header[12], header[13]
    sections = [_unpack(_SECTION, image, offset + index * _SECTION.size, subject) for index in range(count)]
    if names_index >= count:
        raise _damaged(subject)
    names_start, names_size = sections[names_index][4:6]
    names = image[names_start : names_start + names_size]
    for name_at, _, _, _, start, size, *_ in sections:
        if names[name_at : name_at + len(name) + 1] == name + b"\0":
            if start + size > len(image):
                raise _damaged(subject)
            return image[start : start + size]
    raise KernelUnsuitable(f"{subject} is not a kernel module: it has no {name.decode()}")


def _header(image: bytes, subject: str) -> tuple[int, ...]:
    header = _unpack(_HEADER, image, 0, subject)
    if image[:6] != MAGIC + b"\x02\x01":
        raise KernelUnsuitable(f"{subject} is not a 64-bit little-endian ELF file")
    return header


def _unpack(layout: struct.Struct, image: bytes, offset: int, subject: str) -> tuple[int, ...]:
    if offset + layout.size > len(image):
        raise _damaged(subject)
    return layout.unpack_from(image, offset)


def _damaged(subject: str) -> KernelUnsuitable:
    return KernelUnsuitable(f"{subject} is truncated or damaged", hint="install the kernel package again")
