"""CRC-32C without its final inversion, as ext4 has it, so that sums can be continued; VHDX inverts the end."""

try:
    from google_crc32c import extend as _extend
except ImportError:  # no wheel for this machine: a table does it, some 500 times slower, over metadata only
    _TABLE = []
    for _value in range(256):
        for _ in range(8):
            _value = _value >> 1 ^ (0x82F63B78 if _value & 1 else 0)
        _TABLE.append(_value)

    def _extend(crc: int, chunk: bytes) -> int:
        crc ^= 0xFFFFFFFF
        for byte in chunk:
            crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
        return crc ^ 0xFFFFFFFF


INITIAL = 0xFFFFFFFF


def crc32c(state: int, data: bytes) -> int:
    """Continue `state` (INITIAL at first) over `data`."""
    continued: int = _extend(state ^ 0xFFFFFFFF, data)
    return continued ^ 0xFFFFFFFF
