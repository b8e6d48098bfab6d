"""VHDX files of ours, judged by QEMU, 7-Zip and libvhdi; files of QEMU's, read by us."""

import contextlib
import os
import random
import re
import shutil
import subprocess

import pytest

from disks import NothingBelow, check, file, other, push
from propolis.disk import container
from propolis.disk.c_vhdx import MIB
from propolis.disk.ext4.writer import LayerWriter
from propolis.disk.vhdx import VhdxWriter
from propolis.disk.vhdx_reader import VhdxReader
from propolis.errors import InvalidArgument
from propolis.tree import Kind

needs_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
needs_7z = pytest.mark.skipif(shutil.which("7zz") is None, reason="7-Zip is not installed")
needs_libvhdi = pytest.mark.skipif(shutil.which("vhdiinfo") is None, reason="libvhdi's tools are not installed")


@contextlib.contextmanager
def writing(path, block_size=MIB):
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0))
    try:
        yield VhdxWriter(descriptor, block_size)
    finally:
        os.close(descriptor)


def judge(path, model):
    """Let everybody read the disk in `path`; each has to see the bytes of the file `model`."""
    checked = subprocess.run(["qemu-img", "check", "-f", "vhdx", path], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    if model.stat().st_size < 1 << 30:
        same = ["qemu-img", "compare", "-f", "vhdx", "-F", "raw", path, model]
        compared = subprocess.run(same, capture_output=True, text=True, check=False)
        assert compared.returncode == 0, compared.stdout + compared.stderr
    # to list it is to check its structures; to test it is to read every byte of the disk, zeros too
    tested = subprocess.run(
        ["7zz", "t" if model.stat().st_size < 1 << 30 else "l", "-tvhdx", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout
    assert "Creator Application = propolis" in tested.stdout
    assert "arning" not in tested.stdout
    size = model.stat().st_size
    told = subprocess.run(["vhdiinfo", path], capture_output=True, text=True, check=True).stdout
    assert re.search(rf"Media size\s*:.*\({size} bytes\)|Media size\s*: {size} bytes", told), told
    assert re.search(r"Disk type\s*: Dynamic", told)
    assert container.faults(path) == []
    assert path.stat().st_size % MIB == 0


@needs_qemu
@needs_7z
@needs_libvhdi
@pytest.mark.parametrize(
    ("size", "block_size"),
    [
        (1 * MIB, MIB),
        (9 * MIB, MIB),
        (100 * MIB, 8 * MIB),
        (5 << 30, MIB),
        (5 << 30, 32 * MIB),
        (300 << 30, MIB),
    ],
)
def test_writes_anywhere_are_seen_by_everybody(tmp_path, size, block_size):
    """Above one chunk of 4 GiB bitmaps lie among the BAT's entries; above 128 GiB the BAT lies behind the payload."""
    chance = random.Random(size)
    model, path = tmp_path / "model", tmp_path / "disk"
    writes = [(0, 5000), (size - 4096, 4096), (size // 2 - 10, min(3 * block_size, size // 2))]
    writes += [(chance.randrange(size - 70_000), chance.randrange(2, 65_536)) for _ in range(20)]
    marks = [chance.randrange(1, 256) for _ in writes]
    with writing(path, block_size) as disk, model.open("w+b") as plain:
        for (offset, length), mark in zip(writes, marks, strict=True):
            data = memoryview(bytes([mark]) * length)
            cut = chance.randrange(length)
            disk.write(offset, [data[:cut], data[cut:]])
            plain.seek(offset)
            plain.write(data)
        disk.finish(size, "key")
        plain.truncate(size)
    judge(path, model)
    if size > 1 << 30:  # too much to compare byte by byte
        commands = [
            f"read -P {pattern:#x} {offset} {length}" for (offset, length), pattern in zip(writes, marks, strict=True)
        ]
        arguments = [part for command in commands for part in ("-c", command)]
        told = subprocess.run(
            ["qemu-io", "-r", "-f", "vhdx", *arguments, path], capture_output=True, text=True, check=True
        )
        assert told.stdout.count(" bytes at offset") == len(writes)
        assert "failed" not in told.stdout + told.stderr


@needs_qemu
@needs_7z
def test_the_largest_disk(tmp_path):
    path = tmp_path / "disk"
    with writing(path) as disk:
        disk.write((64 << 40) - 4096, [memoryview(b"x" * 4096)])
        disk.finish(64 << 40, "key")
    assert subprocess.run(["qemu-img", "check", path], capture_output=True, check=False).returncode == 0
    assert subprocess.run(["7zz", "l", "-tvhdx", path], capture_output=True, check=False).returncode == 0
    assert path.stat().st_size == 5 * MIB + (512 + 1) * MIB - MIB % MIB
    with contextlib.closing(container.open_disk(path)) as disk:
        assert disk.read((64 << 40) - 4097, 4097) == b"\0" + b"x" * 4096


def test_more_than_the_largest_disk_is_refused(tmp_path):
    with writing(tmp_path / "disk") as disk, pytest.raises(InvalidArgument, match="64 TiB"):
        disk.finish((64 << 40) + 1, "key")


@needs_qemu
@needs_7z
@needs_libvhdi
def test_a_file_system_in_it_is_sound(tmp_path):
    items = [other(Kind.DIRECTORY, b"d"), *(file(b"d/%d" % n, bytes([n % 256]) * n) for n in range(2000))]
    with writing(tmp_path / "disk") as disk:
        writer = LayerWriter(disk, what="it", lower=NothingBelow())
        push(writer, items)
        writer.finish("key")
    subprocess.run(["qemu-img", "convert", "-f", "vhdx", "-O", "raw", tmp_path / "disk", tmp_path / "raw"], check=True)
    check(tmp_path / "raw")
    judge(tmp_path / "disk", tmp_path / "raw")
    listed = subprocess.run(["7zz", "l", tmp_path / "disk"], capture_output=True, text=True, check=True).stdout
    assert "tree/d/1999" in listed


@needs_qemu
@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
@pytest.mark.parametrize("block_size", [1, 8, 256])
def test_what_qemu_makes_is_read(tmp_path, kind, block_size):
    chance = random.Random(1)
    raw, path = tmp_path / "raw", tmp_path / "disk"
    with raw.open("wb") as file_:
        for offset in (0, 3 << 20, (5 << 20) + 12345):
            file_.seek(offset)
            file_.write(chance.randbytes(100_000))
        file_.truncate(6 << 20)
    options = f"subformat={kind},block_size={block_size}M"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vhdx", "-o", options, raw, path], check=True)
    assert container.faults(path) == []
    with contextlib.closing(container.open_disk(path)) as disk:
        assert disk.size == 6 << 20
        assert disk.read(0, disk.size) == raw.read_bytes()
        assert isinstance(disk, VhdxReader)
        facts = disk.facts()
    assert facts.creator.startswith("QEMU")
    assert (facts.is_fixed, facts.block_size) == (kind == "fixed", block_size * MIB)
