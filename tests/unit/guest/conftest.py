"""Kernels, modules and packages made of bytes, as small as the code under test lets them be."""

import io
import lzma
import struct
import sys
import tarfile
from collections.abc import Mapping

import pytest


@pytest.fixture(autouse=True)
def _no_tuned_kernel(monkeypatch):
    """These tests make the host's kernels themselves."""
    monkeypatch.setenv("PROPOLIS_KERNEL", "distribution")


XEN_ENTRY_NOTE = struct.pack("<III", 4, 4, 18) + b"Xen\0" + bytes(4)
SUITABLE_CONFIG = "\n".join(
    f"CONFIG_{symbol}=y"
    for symbol in (
        *("VIRTIO_PCI", "VIRTIO_CONSOLE", "SCSI_VIRTIO", "BLK_DEV_SD", "EXT4_FS", "OVERLAY_FS"),
        *("BLK_DEV_INITRD", "BINFMT_ELF", "BINFMT_SCRIPT", "DEVTMPFS", "TMPFS", "PROC_FS", "SYSFS", "UNIX98_PTYS"),
        *("SERIAL_8250_CONSOLE", "SERIAL_AMBA_PL011_CONSOLE"),
    )
)
MODULAR_CONFIG = SUITABLE_CONFIG
for _symbol in ("VIRTIO_PCI", "VIRTIO_CONSOLE", "SCSI_VIRTIO", "BLK_DEV_SD", "EXT4_FS", "OVERLAY_FS"):
    MODULAR_CONFIG = MODULAR_CONFIG.replace(f"CONFIG_{_symbol}=y", f"CONFIG_{_symbol}=m")
for _symbol in ("9P_FS", "NET_9P_VIRTIO", "NET_9P_FD", "HYPERV", "HYPERV_STORAGE", "HYPERV_VSOCKETS"):
    MODULAR_CONFIG += f"\nCONFIG_{_symbol}=m"

DEPENDENCIES = {
    "virtio": "depends=virtio_ring",
    "virtio_ring": "depends=",
    "virtio_pci": "depends=virtio,virtio_ring",
    "virtio_console": "depends=virtio",
    "virtio_scsi": "depends=scsi_mod,virtio",
    "scsi_mod": "depends=",
    "sd_mod": "depends=scsi_mod,t10-pi",
    "t10-pi": "depends=",
    "ext4": "softdep=pre: crypto-crc32c\0depends=jbd2",
    "jbd2": "depends=",
    "crc32c_generic": "alias=crypto-crc32c\0depends=",
    "overlay": "depends=",
    "9pnet": "depends=",
    "9p": "depends=9pnet",
    "9pnet_virtio": "depends=9pnet,virtio_ring,virtio",
    "9pnet_fd": "depends=9pnet",
    "hv_vmbus": "depends=",
    "hv_storvsc": "depends=hv_vmbus,scsi_transport_fc,scsi_mod",
    "scsi_transport_fc": "depends=scsi_mod",
    "hv_sock": "depends=hv_vmbus,vsock",
    "vsock": "depends=",
    "hv_utils": "depends=hv_vmbus",
    "snd_unneeded": "depends=",
}


def make_module(modinfo: str) -> bytes:
    """An ELF file of three sections: none, .modinfo, the section names."""
    content, names = modinfo.encode() + b"\0", b"\0.modinfo\0.shstrtab\0"
    table_at = 64 + len(content) + len(names)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), 1, 62, 1, 0, 0, table_at, 0, 64, 0, 0, 64, 3, 2
    )
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, 0, 0, 64, len(content), 0, 0, 1, 0)
    sections += struct.pack("<IIQQQQIIQQ", 10, 3, 0, 0, 64 + len(content), len(names), 0, 0, 1, 0)
    return header + content + names + sections


def make_vmlinux(notes: bytes = XEN_ENTRY_NOTE, machine: int = 62, release: str = "6.1.0-test") -> bytes:
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(notes), len(notes), 4)
    return header + segment + notes + f"Linux version {release} (someone)".encode() + bytes(1 << 17)


def make_bzimage(payload: bytes, release: str = "6.1.0-test", setup_sectors: int = 3) -> bytes:
    setup = bytearray((setup_sectors + 1) * 512)
    setup[0x1F1] = setup_sectors
    setup[0x1FE:0x200] = b"\x55\xaa"
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, 0x20F)
    struct.pack_into("<H", setup, 0x20E, 0x300)
    text = f"{release} (builder@host) #1 SMP".encode() + b"\0"
    setup[0x500 : 0x500 + len(text)] = text
    struct.pack_into("<II", setup, 0x248, 16, len(payload))
    return bytes(setup) + bytes(16) + payload + bytes(32)


def make_arm64_image(release: str = "6.1.0-arm") -> bytes:
    return b"MZ".ljust(56, b"\0") + b"ARM\x64" + bytes(64) + f"Linux version {release} (x)".encode()


def make_deb(files: Mapping[str, bytes], suffix: str = ".xz", compress=lzma.compress) -> bytes:
    tree = io.BytesIO()
    with tarfile.open(fileobj=tree, mode="w") as tar:
        for path, data in files.items():
            info = tarfile.TarInfo(f"./{path}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar{suffix}": compress(tree.getvalue())}
    result = b"!<arch>\n"
    for name, data in members.items():
        result += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}".encode() + b"`\n" + data
        result += b"\n" * (len(data) % 2)
    return result


@pytest.fixture
def kernel_files():
    """The files of a modular kernel's package."""
    tree = "lib/modules/6.1.0-test"
    files = {
        "boot/vmlinuz-6.1.0-test": make_bzimage(lzma.compress(make_vmlinux())),
        "boot/config-6.1.0-test": MODULAR_CONFIG.encode(),
        f"{tree}/modules.builtin": b"kernel/fs/binfmt_script.ko\n",
    }
    for name, modinfo in DEPENDENCIES.items():
        files[f"{tree}/kernel/drivers/{name}.ko"] = make_module(modinfo)
    return files


@pytest.fixture
def installed(tmp_path, kernel_files):
    """A root directory with that kernel installed; returns it."""
    root = tmp_path / "root"
    for path, data in kernel_files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


@pytest.fixture(scope="session")
def crafted():
    """The makers above, for tests that need files of their own."""
    return sys.modules[__name__]
