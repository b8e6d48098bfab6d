"""Extended attributes: in the inode where they fit, else in one block.

Follows Documentation/filesystems/ext4/attributes.rst and fs/ext4/xattr.c; access lists as in fs/ext4/acl.c.
"""

from collections.abc import Mapping
from struct import Struct, error, iter_unpack

from propolis.disk.checksum import crc32c
from propolis.disk.ext4.structs import (
    BLOCK_SIZE,
    EXT4_XATTR_MAGIC,
    EXTRA_ISIZE,
    GOOD_OLD_INODE_SIZE,
    INODE_SIZE,
    XATTR_HEADER_CHECKSUM,
    u32,
    u64,
    xattr_entry,
    xattr_header,
)

IN_INODE = INODE_SIZE - GOOD_OLD_INODE_SIZE - EXTRA_ISIZE
_POSIX_ACL_XATTR_VERSION = 2
_EXT4_ACL_VERSION = 1
_ACL_USER, _ACL_GROUP = 0x02, 0x08
_acl_xattr_entry = Struct("<HHI")
_acl_short = Struct("<HH")
_ACLS = {b"system.posix_acl_access": 2, b"system.posix_acl_default": 3}
_PREFIXES = ((b"user.", 1), (b"trusted.", 4), (b"security.", 6))

_ACL_NAMES = {index: name for name, index in _ACLS.items()}
_PREFIX_OF = {index: prefix for prefix, index in _PREFIXES}
_NO_NUMBER = 0xFFFFFFFF

_LONGEST_NAME = 255

_Item = tuple[int, bytes, bytes]
"""Name index, rest of the name, value."""


class Unrepresentable(ValueError):
    """An attribute that ext4 cannot hold; the text says which and why."""


def items(xattrs: Mapping[bytes, bytes]) -> list[_Item]:
    """Attributes in the form and the order that ext4 keeps them.

    Those of name spaces that Linux does not have (macOS' `com.apple.`) are left out, as other tools do.

    Raises:
        Unrepresentable: a name is too long, or an access list malformed.
    """
    kept = (_item(name, value) for name, value in xattrs.items())
    return sorted(filter(None, kept), key=lambda item: (item[0], len(item[1]), item[1]))


def _item(name: bytes, value: bytes) -> _Item | None:
    if name in _ACLS:
        return _ACLS[name], b"", _access_list(name, value)
    for prefix, index in _PREFIXES:
        if name.startswith(prefix):
            if not len(prefix) < len(name) <= len(prefix) + _LONGEST_NAME:
                raise Unrepresentable(f"the extended attribute {name[:80]!r} has no name, or one that is too long")
            return index, name[len(prefix) :], value
    return None


def _access_list(name: bytes, value: bytes) -> bytes:
    """From the system call's form to the disk's."""
    try:
        if u32.unpack_from(value)[0] != _POSIX_ACL_XATTR_VERSION:
            raise Unrepresentable(f"the access list {name!r} is of an unknown version")
        parts = [u32.pack(_EXT4_ACL_VERSION)]
        for tag, permissions, number in iter_unpack("<HHI", value[4:]):
            has_number = tag in (_ACL_USER, _ACL_GROUP)
            parts.append(
                _acl_xattr_entry.pack(tag, permissions, number) if has_number else _acl_short.pack(tag, permissions)
            )
    except error:
        raise Unrepresentable(f"the access list {name!r} is cut off") from None
    return b"".join(parts)


def size(entries: list[_Item]) -> int:
    """Bytes that entries, their end and their values take."""
    return 4 + sum(_entry_size(name) + _padded(value) for _, name, value in entries)


def _entry_size(name: bytes) -> int:
    return xattr_entry.size + (len(name) + 3 & ~3)


def _padded(value: bytes) -> int:
    return len(value) + 3 & ~3


def fits_in_inode(entries: list[_Item]) -> bool:
    """Whether they need no block."""
    return 4 + size(entries) <= IN_INODE


def fits_in_block(entries: list[_Item]) -> bool:
    """Whether one block holds them."""
    return xattr_header.size + size(entries) <= BLOCK_SIZE


def build_in_inode(entries: list[_Item]) -> bytes:
    """The inode's tail: magic, entries, and values from the end."""
    if not entries:
        return b""
    room = IN_INODE - 4
    return u32.pack(EXT4_XATTR_MAGIC) + _fill(entries, room, 0, [0] * len(entries))


def build_block(entries: list[_Item], number: int, seed: int) -> bytes:
    """The block at `number`; `seed` is the file system's checksum seed."""
    hashes = [_hash(name, value) for _, name, value in entries]
    whole = 0
    for value in hashes:
        whole = (whole << 16 & 0xFFFFFFFF) ^ whole >> 16 ^ value
    body = _fill(entries, BLOCK_SIZE - xattr_header.size, xattr_header.size, hashes)
    block = bytearray(xattr_header.pack(EXT4_XATTR_MAGIC, 1, 1, whole, 0) + body)
    u32.pack_into(block, XATTR_HEADER_CHECKSUM, crc32c(crc32c(seed, u64.pack(number)), bytes(block)))
    return bytes(block)


def _fill(entries: list[_Item], room: int, base: int, hashes: list[int]) -> bytes:
    """Entries from the front, values from the back of `room` bytes; offsets count from `base` bytes before them."""
    area = bytearray(room)
    front, back = 0, room
    for (index, name, value), digest in zip(entries, hashes, strict=True):
        back -= _padded(value)
        area[back : back + len(value)] = value
        offset = base + back if value else 0
        xattr_entry.pack_into(area, front, len(name), index, offset, 0, len(value), digest)
        area[front + xattr_entry.size : front + xattr_entry.size + len(name)] = name
        front += _entry_size(name)
    return bytes(area)


def _hash(name: bytes, value: bytes) -> int:
    digest = 0
    for byte in name:
        digest = (digest << 5 & 0xFFFFFFFF) ^ digest >> 27 ^ byte
    for (word,) in iter_unpack("<I", value.ljust(_padded(value), b"\0")):
        digest = (digest << 16 & 0xFFFFFFFF) ^ digest >> 16 ^ word
    return digest


def parse_in_inode(tail: bytes) -> dict[bytes, bytes]:
    """The attributes in an inode's tail, by their full names."""
    if u32.unpack_from(tail)[0] != EXT4_XATTR_MAGIC:
        return {}
    return _parse(tail, 4, 4)


def parse_block(block: bytes) -> dict[bytes, bytes]:
    """The attributes in an attribute block, by their full names."""
    return _parse(block, xattr_header.size, 0)


def _parse(area: bytes, front: int, base: int) -> dict[bytes, bytes]:
    found = {}
    while front + xattr_entry.size <= len(area) and area[front : front + 4] != bytes(4):
        name_length, index, offset, _, length, _ = xattr_entry.unpack_from(area, front)
        name = area[front + xattr_entry.size : front + xattr_entry.size + name_length]
        value = area[base + offset : base + offset + length]
        if index in _ACL_NAMES:
            found[_ACL_NAMES[index]] = _system_access_list(value)
        else:
            found[_PREFIX_OF.get(index, b"") + name] = value
        front += _entry_size(name)
    return found


def _system_access_list(value: bytes) -> bytes:
    """From the disk's form to the system call's."""
    parts, at = [u32.pack(_POSIX_ACL_XATTR_VERSION)], 4
    while at + _acl_short.size <= len(value):
        tag, permissions = _acl_short.unpack_from(value, at)
        at += _acl_short.size
        number = _NO_NUMBER
        if tag in (_ACL_USER, _ACL_GROUP):
            number = int.from_bytes(value[at : at + u32.size], "little")
            at += u32.size
        parts.append(_acl_xattr_entry.pack(tag, permissions, number))
    return b"".join(parts)
