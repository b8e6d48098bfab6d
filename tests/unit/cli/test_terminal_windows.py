import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from propolis.cli import terminal_windows
from propolis.host.win32 import _ffi


async def first(*numbers, raised):
    with terminal_windows.open_signal_receiver(*numbers) as received:
        threading.Timer(0.2, signal.raise_signal, [raised]).start()
        return await anext(received)


@pytest.mark.parametrize(
    ("raised", "told"),
    [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGTERM), (signal.SIGBREAK, signal.SIGTERM)],
)
def test_a_signal_wakes_whoever_waits_and_its_handler_comes_back(raised, told):
    before = signal.getsignal(raised)
    assert asyncio.run(asyncio.wait_for(first(*terminal_windows.FORWARDED, raised=raised), 20)) == told
    assert signal.getsignal(raised) == before


def test_a_console_of_another_size_is_told(monkeypatch):
    sizes = iter([(80, 25), (80, 25), (100, 40)])
    monkeypatch.setattr(terminal_windows, "_size", lambda: next(sizes))

    async def main():
        with terminal_windows.open_signal_receiver() as received:
            return await anext(received)

    assert asyncio.run(asyncio.wait_for(main(), 20)) == terminal_windows.RESIZED


def test_raw_input_is_neither_interpreted_nor_echoed():
    usual = _ffi.ENABLE_PROCESSED_INPUT | _ffi.ENABLE_LINE_INPUT | _ffi.ENABLE_ECHO_INPUT | 0x1F0
    assert terminal_windows.raw_input(usual) == 0x1F0 | _ffi.ENABLE_VIRTUAL_TERMINAL_INPUT


def test_raw_mode_needs_a_console(tmp_path):
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError), terminal_windows.raw_mode(file.fileno()):
        pytest.fail("a file is no console")


def test_what_is_redirected_is_read_as_it_is():
    reading, writing = os.pipe()
    os.write(writing, b"a\r\nb\x1a\xff")
    os.close(writing)
    assert terminal_windows.read(reading, 100) == b"a\r\nb\x1a\xff"
    assert terminal_windows.read(reading, 100) == b""
    os.close(reading)


@pytest.mark.parametrize(
    ("mode", "units", "expected"),
    [
        (0, ["\x1b[A\r".encode("utf-16-le")], "\x1b[A\r"),
        (0, [b"", "ä€".encode("utf-16-le")], "ä€"),
        (0, ["😀".encode("utf-16-le")[:2], "😀".encode("utf-16-le")[2:]], "😀"),
        (0, ["\x1a".encode("utf-16-le")], "\x1a"),
        (_ffi.ENABLE_LINE_INPUT, ["grüße\r\n".encode("utf-16-le")], "grüße\n"),
        (_ffi.ENABLE_LINE_INPUT, ["\x1a\r\n".encode("utf-16-le")], ""),
    ],
)
def test_keys_become_utf_8(monkeypatch, mode, units, expected):
    """Of characters that Wine gives as a real console does not; what a console gives is put in its place."""
    pieces = iter(units)
    monkeypatch.setattr(terminal_windows.msvcrt, "get_osfhandle", lambda descriptor: 7)
    monkeypatch.setattr(_ffi, "console_mode", lambda handle: mode)
    monkeypatch.setattr(_ffi, "read_console", lambda handle, most: next(pieces))
    assert terminal_windows.read(0, 4096).decode() == expected


def test_what_is_redirected_may_hold_any_character():
    program = "from propolis.cli import terminal; terminal.prepare(); print('ä☃😀\\udc80')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.split() == ["ä☃😀\\udc80".encode()]


def test_nobody_sits_at_nul(tmp_path):
    with Path(os.devnull).open() as nul, (tmp_path / "file").open("w") as file:
        assert os.isatty(nul.fileno())
        assert not terminal_windows.is_terminal(nul.fileno())
        assert not terminal_windows.is_terminal(file.fileno())
