"""Windows' own reader judges our disks: virtdisk.dll opens each and tells its size and kind. Not yet run on Windows.

Usage: python virtdisk.py IMAGE. Needs no rights: OpenVirtualDisk with GetInfoOnly parses headers and metadata only.
Wine's virtdisk.dll is a stub, so this is for real Windows. Structures as in virtdisk.h.
"""

import ctypes
import sys
import tempfile
import uuid
from ctypes import wintypes
from pathlib import Path

from propolis import disk

MICROSOFT = uuid.UUID("ec984aec-a0f9-47e9-901f-71415a66345b")
DEVICES = {"vhd": 2, "vhdx": 3}
SUBTYPES = {"vhd": 2, "vhdx": 3}
"""Fixed and dynamic."""
SIZE, STORAGE_TYPE, SUBTYPE = 1, 6, 7


class VirtualStorageType(ctypes.Structure):
    _fields_ = [("DeviceId", wintypes.ULONG), ("VendorId", wintypes.ULONG * 4)]


class OpenParameters(ctypes.Structure):
    """OPEN_VIRTUAL_DISK_PARAMETERS, version 2."""

    _fields_ = [
        ("Version", wintypes.ULONG),
        ("GetInfoOnly", wintypes.BOOL),
        ("ReadOnly", wintypes.BOOL),
        ("ResiliencyGuid", wintypes.ULONG * 4),
    ]


class Size(ctypes.Structure):
    _fields_ = [
        ("VirtualSize", ctypes.c_uint64),
        ("PhysicalSize", ctypes.c_uint64),
        ("BlockSize", wintypes.ULONG),
        ("SectorSize", wintypes.ULONG),
    ]


class Value(ctypes.Union):
    _fields_ = [("Size", Size), ("VirtualStorageType", VirtualStorageType), ("ProviderSubtype", wintypes.ULONG)]


class Info(ctypes.Structure):
    """GET_VIRTUAL_DISK_INFO; room for its longest member that is asked for."""

    _fields_ = [("Version", wintypes.ULONG), ("Value", Value), ("rest", ctypes.c_ubyte * 64)]


assert ctypes.sizeof(VirtualStorageType) == 20
assert ctypes.sizeof(OpenParameters) == 28
assert Info.Value.offset == 8


def vendor():
    return (wintypes.ULONG * 4).from_buffer_copy(MICROSOFT.bytes_le)


class VirtualDisk:
    """One disk, opened for what its file says of it."""

    def __init__(self, path, kind):
        self._virtdisk = ctypes.WinDLL("virtdisk")
        self._virtdisk.OpenVirtualDisk.argtypes = [
            ctypes.POINTER(VirtualStorageType),
            wintypes.LPCWSTR,
            wintypes.ULONG,
            wintypes.ULONG,
            ctypes.POINTER(OpenParameters),
            ctypes.POINTER(wintypes.HANDLE),
        ]
        self._virtdisk.GetVirtualDiskInformation.argtypes = [
            wintypes.HANDLE,
            ctypes.POINTER(wintypes.ULONG),
            ctypes.POINTER(Info),
            ctypes.POINTER(wintypes.ULONG),
        ]
        self._handle = wintypes.HANDLE()
        storage = VirtualStorageType(DEVICES[kind], vendor())
        parameters = OpenParameters(Version=2, GetInfoOnly=True, ReadOnly=True)
        self._check(
            self._virtdisk.OpenVirtualDisk(
                ctypes.byref(storage), str(path), 0, 0, ctypes.byref(parameters), ctypes.byref(self._handle)
            ),
            path,
        )

    def told(self, version):
        """GetVirtualDiskInformation: the union, of which `version` says which member counts."""
        info = Info(Version=version)
        length = wintypes.ULONG(ctypes.sizeof(info))
        status = self._virtdisk.GetVirtualDiskInformation(self._handle, ctypes.byref(length), ctypes.byref(info), None)
        self._check(status, f"information {version}")
        return info.Value

    def close(self):
        kernel32 = ctypes.WinDLL("kernel32")
        kernel32.CloseHandle.argtypes = [wintypes.HANDLE]
        kernel32.CloseHandle(self._handle)

    @staticmethod
    def _check(status, what):
        if status & 0xFFFFFFFF:
            raise SystemExit(f"{what}: {status & 0xFFFFFFFF:#010x} {ctypes.FormatError(status)}")


def judge(image, directory, kind, size):
    """Build the disk and have Windows tell what it is."""
    path = directory / f"disk.{kind}"
    (built,) = disk.build(image, path, flatten=True, size=size)
    opened = VirtualDisk(path, kind)
    try:
        told = opened.told(SIZE).Size
        virtual, sector, block = told.VirtualSize, told.SectorSize, told.BlockSize
        assert (opened.told(STORAGE_TYPE).VirtualStorageType.DeviceId) == DEVICES[kind]
        assert opened.told(SUBTYPE).ProviderSubtype == SUBTYPES[kind]
    finally:
        opened.close()
    assert sector == 512, sector
    assert virtual >= built.size, (virtual, built.size)
    print(f"{path.name}: {virtual} bytes, blocks of {block}, sectors of {sector}")  # noqa: T201 - a script


def main():
    with tempfile.TemporaryDirectory() as directory:
        for kind in DEVICES:
            judge(sys.argv[1], Path(directory), kind, 1 << 30)


if __name__ == "__main__":
    main()
