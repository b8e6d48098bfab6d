"""An engine behind a named pipe of Windows."""

import _winapi
import json
import os
import threading
from pathlib import Path

import pytest

from propolis.errors import DaemonError
from propolis.image.daemon.address import Address, Kind
from propolis.image.daemon.engine import Bounds, Engine

BYTES, WAITS = 0, 0
CONNECTED = 535
SOON = Bounds(document=1, prepare=1, silence=1)


@pytest.fixture
def served():
    r"""Serves `\\.\pipe\NAME` once for each answer that it is given; gives the address."""
    name = rf"\\.\pipe\propolis-test-{os.getpid()}"
    threads = []

    def serve(answer):
        pipe = _winapi.CreateNamedPipe(name, _winapi.PIPE_ACCESS_DUPLEX, BYTES | WAITS, 1, 65536, 65536, 0, 0)

        def run():
            try:
                _winapi.ConnectNamedPipe(pipe)
            except OSError as error:
                if error.winerror != CONNECTED:  # the client was faster
                    raise
            _winapi.ReadFile(pipe, 65536)
            for at in range(0, len(answer), 50_000):
                _winapi.WriteFile(pipe, answer[at : at + 50_000])
            ended.wait(10)
            _winapi.CloseHandle(pipe)

        ended = threading.Event()
        threads.append((threading.Thread(target=run), ended))
        threads[-1][0].start()
        return Address(kind=Kind.PIPE, path=name.replace("\\", "/"))

    def end():
        for thread, ended in threads:
            ended.set()
            thread.join()
        threads.clear()

    serve.end = end
    yield serve
    end()


def test_it_tells_of_an_image_and_exports_it(served):
    body = json.dumps({"Id": "x"}).encode()
    engine = Engine(served(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)), SOON)
    assert engine.inspect("x") == body
    served.end()
    data = os.urandom(300_000)
    served(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
    assert b"".join(map(bytes, engine.export("x"))) == data


def test_silence_has_an_end(served):
    with pytest.raises(DaemonError, match="does not answer in time"):
        Engine(served(b"HTTP/1.1 200 OK\r\n"), SOON).inspect("x")
    served.end()


def test_a_pipe_that_stays_busy_is_given_up(served):
    address = served(b"")
    with Path(address.path).open("r+b", buffering=0) as other:
        with pytest.raises(DaemonError, match="cannot be asked"):
            Engine(address, Bounds(connect=0.3)).inspect("x")
        other.write(b"x")


def test_nobody_listens():
    with pytest.raises(DaemonError, match=r"no container engine listens at npipe:////./pipe/propolis-none"):
        Engine(Address(kind=Kind.PIPE, path="//./pipe/propolis-none"), SOON).inspect("x")
