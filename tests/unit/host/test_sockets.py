"""Connections between processes of one user, as this system has them."""

import socket
import subprocess
import sys

import anyio
import pytest

from propolis.host import system
from propolis.host.sockets import channel


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


def pair():
    """Two ends without a name, as a front end has one and an owner the other."""
    if sys.platform == "win32":
        from propolis.host import windows_channel

        here, there = windows_channel.pair()
        return here, windows_channel.PipeChannel(there)
    return tuple(map(channel, socket.socketpair()))


@pytest.fixture(params=["named", "pair"])
async def both(request, tmp_path):
    """The two ends of a connection."""
    if request.param == "pair":
        ends = pair()
        yield ends
        for end in ends:
            await end.aclose()
        return
    listener = system.listen(tmp_path / "control")
    ends = []

    async def accept():
        ends.append(await listener.accept())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(accept)
        here = system.connect(tmp_path / "control")
    yield here, *ends
    for end in (here, *ends):
        await end.aclose()
    listener.close()


@pytest.mark.anyio
async def test_bytes_go_both_ways_at_once(both):
    data = bytes(range(256)) * 8192

    async def echo(end):
        while piece := await end.receive(5000):
            await end.send(piece)

    here, there = both
    back = b""
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(echo, there)
            tasks.start_soon(here.send, data)
            while len(back) < len(data):
                back += await here.receive()
            await here.aclose()
    assert back == data


@pytest.mark.anyio
async def test_a_receive_that_is_given_up_loses_nothing(both):
    here, there = both
    for number in range(20):
        with anyio.move_on_after(0.01):
            assert await here.receive() == b"never"
        await there.send(b"%d" % number)
        assert await here.receive() == b"%d" % number


@pytest.mark.anyio
async def test_the_end_comes_after_what_was_sent(both):
    here, there = both
    await there.send(b"last words")
    await there.aclose()
    await there.aclose()
    assert await here.receive(4) == b"last"
    assert await here.receive() == b" words"
    assert await here.receive() == b""
    with pytest.raises(BrokenPipeError):
        await here.send(b"too late")
    with pytest.raises(BrokenPipeError):
        await there.send(b"closed")


@pytest.mark.anyio
async def test_closing_ends_a_receive_and_a_send_that_wait(both):
    here, there = both

    async def send():
        with pytest.raises(BrokenPipeError):
            await there.send(bytes(1 << 22))  # which nobody takes

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.sleep(0.2)
        await there.aclose()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(here.aclose)
        while await here.receive():
            pass


@pytest.mark.anyio
async def test_many_come_and_some_go_at_once(tmp_path):
    listener = system.listen(tmp_path / "control")
    came, heard = [], []

    async def accept():
        while len(heard) < 5:
            end = await listener.accept()
            if told := await end.receive():
                heard.append(told)
            await end.aclose()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(accept)
            for number in range(10):
                came.append(await anyio.to_thread.run_sync(system.connect, tmp_path / "control"))
                if number % 2:
                    await came[-1].send(b"%d" % number)
                else:
                    await came[-1].aclose()  # perhaps before it was taken, and then it is not
    assert heard == [b"1", b"3", b"5", b"7", b"9"]
    for end in came:
        await end.aclose()
    listener.close()
    listener.close()
    with pytest.raises(OSError):
        system.connect(tmp_path / "control")
    with pytest.raises(OSError):
        system.connect(tmp_path / "absent")


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform != "win32", reason="an accept waits in a thread on Windows only")
async def test_closing_ends_an_accept_that_was_given_up(tmp_path):
    listener = system.listen(tmp_path / "control")
    with anyio.move_on_after(0.1):
        await listener.accept()
    listener.close()
    with pytest.raises(BrokenPipeError):
        await listener.accept()


@pytest.mark.skipif(sys.platform != "win32", reason="pipes have names on Windows only")
def test_no_name_is_like_another(tmp_path):
    names = set()
    for number in range(3):
        listener = system.listen(tmp_path / str(number))
        names.add((tmp_path / str(number)).read_text())
        listener.close()
    assert len(names) == 3


@pytest.mark.anyio
async def test_another_process_of_the_user_may_connect(tmp_path):
    listener = system.listen(tmp_path / "control")
    program = (
        "import sys, pathlib, anyio; from propolis.host import system\n"
        "end = system.connect(pathlib.Path(sys.argv[1])); anyio.run(end.send, b'hello'); anyio.run(end.aclose)"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path / "control"]) as process:  # noqa: ASYNC220 - at once
        with anyio.fail_after(60):
            end = await listener.accept()
            assert await end.receive() == b"hello"
            assert await end.receive() == b""
        assert process.wait(60) == 0
    await end.aclose()
    listener.close()
