import re
import struct
import sys
from pathlib import Path

import pytest

from propolis.errors import KernelError
from propolis.guest.binaries import OVERRIDE, init_path
from propolis.spec import Architecture

ROOT = Path(__file__).resolve().parents[3]
MACHINES = {Architecture.X86_64: 62, Architecture.AARCH64: 183}
PT_INTERP, PT_DYNAMIC = 3, 2
SIZE_LIMIT = 256 << 10


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    pytest.importorskip("ziglang", reason="compiling the guest's init needs the package ziglang")
    pytest.importorskip("hatchling", reason="the build hook needs hatchling")
    sys.path.insert(0, str(ROOT))
    try:
        import hatch_build
    finally:
        sys.path.remove(str(ROOT))
    places = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    for place in places:
        hatch_build.compile_all(place)
    return places


@pytest.mark.parametrize("architecture", Architecture)
def test_init_is_a_small_static_program_for_its_architecture(built, monkeypatch, architecture):
    monkeypatch.setenv(OVERRIDE, str(built[0]))
    elf = init_path(architecture).read_bytes()
    assert len(elf) < SIZE_LIMIT
    assert struct.unpack_from("<H", elf, 18)[0] == MACHINES[architecture]
    (offset,), (size, count) = struct.unpack_from("<Q", elf, 32), struct.unpack_from("<HH", elf, 54)
    kinds = {struct.unpack_from("<I", elf, offset + size * i)[0] for i in range(count)}
    assert not kinds & {PT_INTERP, PT_DYNAMIC}


def test_two_builds_are_equal_byte_for_byte(built):
    first, second = ({path.name: path.read_bytes() for path in place.iterdir()} for place in built)
    assert first == second
    assert sorted(first) == ["SOURCE", "init-aarch64", "init-x86_64"]


def test_a_missing_init_names_the_path_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv(OVERRIDE, str(tmp_path))
    with pytest.raises(KernelError, match=re.escape(str(tmp_path))) as caught:
        init_path(Architecture.X86_64)
    assert OVERRIDE in caught.value.hint


def test_an_init_that_is_no_program_is_refused(tmp_path, monkeypatch):
    (tmp_path / "init-x86_64").write_text("#!/bin/sh\n")
    monkeypatch.setenv(OVERRIDE, str(tmp_path))
    with pytest.raises(KernelError, match="not a program"):
        init_path(Architecture.X86_64)
