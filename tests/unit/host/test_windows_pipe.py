import contextlib
import os
import queue
import secrets
import subprocess
import sys
import threading
import time

import pytest

from propolis.host.windows_pipe import PipeReader, descriptor

PATIENCE = 20


@pytest.fixture
def name():
    return f"propolis-test-{secrets.token_hex(8)}"


@pytest.fixture
def received():
    return queue.Queue()


def open_client(name):
    return open(rf"\\.\pipe\{name}", "r+b", buffering=0)  # noqa: PTH123 - a pipe's name is no path to pathlib


def drained(received):
    taken = b""
    while not received.empty():
        taken += received.get()
    return taken


def test_what_a_client_sends_is_taken(name, received):
    reader = PipeReader(name, received.put)
    try:
        with open_client(name) as client:
            client.write(b"one")
            assert received.get(timeout=PATIENCE) == b"one"
            client.write(b"two")
            assert received.get(timeout=PATIENCE) == b"two"
    finally:
        reader.close()


def test_nothing_is_lost_when_it_is_closed_at_once(name, received):
    reader = PipeReader(name, received.put)
    with open_client(name) as client:
        for number in range(100):
            client.write(b"%04d" % number * 100)
        reader.close()
    assert drained(received) == b"".join(b"%04d" % number * 100 for number in range(100))


def test_a_client_that_never_stops_is_left(name, received):
    reader = PipeReader(name, lambda _: None)
    ended = threading.Event()

    def flood():
        with contextlib.suppress(OSError), open_client(name) as client:
            while not ended.is_set():
                client.write(bytes(1 << 16))

    client = threading.Thread(target=flood)
    client.start()
    time.sleep(0.2)
    closing = threading.Thread(target=reader.close, daemon=True)
    closing.start()
    closing.join(PATIENCE)
    ended.set()
    assert not closing.is_alive()
    client.join(PATIENCE)


def test_what_came_before_anybody_waited_is_there(name, received):
    reader = PipeReader(name, received.put)
    for number in range(20):  # each may have come and gone before it was waited for
        while True:
            try:
                with open_client(name) as client:
                    client.write(b"%02d" % number)
            except OSError:  # the one before is not done with yet
                continue
            break
        assert received.get(timeout=PATIENCE) == b"%02d" % number
    reader.close()


def test_another_process_is_a_client_like_any_other(name, received):
    reader = PipeReader(name, received.put)
    program = rf"import os; os.write(os.open(r'\\.\pipe\{name}', os.O_RDWR | os.O_BINARY), b'from afar')"
    try:
        subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE)
        assert received.get(timeout=PATIENCE) == b"from afar"
    finally:
        reader.close()


def test_a_name_has_one_server(name, received):
    reader = PipeReader(name, received.put)
    try:
        with pytest.raises(OSError):
            PipeReader(name, received.put)
    finally:
        reader.close()
    PipeReader(name, received.put).close()


def test_closing_waits_for_no_client_and_may_be_repeated(name, received):
    reader = PipeReader(name, received.put)
    reader.close()
    reader.close()
    with pytest.raises(OSError):
        open_client(name)


def test_pipes_leave_no_handles_behind(name, received):
    for _ in range(50):
        PipeReader(name, received.put).close()
    before = os.dup(0)
    os.close(before)
    for _ in range(50):
        PipeReader(name, received.put).close()
    after = os.dup(0)
    os.close(after)
    assert after == before


def test_only_who_is_named_may_open_it():
    assert descriptor("S-1-5-21-1-2-3-1000", ["S-1-5-83-0"]) == (
        "D:P(A;;GA;;;S-1-5-18)(A;;GA;;;S-1-5-21-1-2-3-1000)(A;;GRGW;;;S-1-5-83-0)"
    )


def test_a_sid_that_is_none_is_refused(name, received):
    with pytest.raises(OSError):
        PipeReader(name, received.put, allow=["nobody"])
