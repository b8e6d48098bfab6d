import socket
import threading

import anyio
import anyio.to_thread
import pytest

from propolis.hypervisor.hyperv.channel import GuestChannel

pytestmark = pytest.mark.anyio


@pytest.fixture
def listener():
    made = socket.create_server(("127.0.0.1", 0))
    yield made
    made.close()


@pytest.fixture
async def channel(listener, told):
    made = GuestChannel(listener, told.append)
    try:
        yield made
    finally:
        with anyio.fail_after(10):
            await made.aclose()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("propolis-agent")]


@pytest.fixture
def told():
    return []


@pytest.fixture
def guest(listener):
    """Connects as the guest does, when called."""
    made = []

    def dial():
        made.append(socket.create_connection(listener.getsockname()))
        made[-1].settimeout(10)
        return made[-1]

    yield dial
    for connection in made:
        connection.close()


async def read_exactly(connection, count):
    def read():
        data = b""
        while len(data) < count:
            data += connection.recv(count - len(data))
        return data

    return await anyio.to_thread.run_sync(read)


async def receive_exactly(channel, count):
    data = b""
    while len(data) < count:
        data += await channel.receive()
    return data


async def test_bytes_go_both_ways_also_those_sent_before_the_guest_dialled(channel, guest):
    await channel.send(b"early ")
    connection = guest()
    await channel.send(memoryview(b"late"))
    assert await read_exactly(connection, 10) == b"early late"
    connection.sendall(b"answer")
    assert await receive_exactly(channel, 6) == b"answer"


async def test_no_more_is_received_than_asked_for(channel, guest):
    guest().sendall(b"abcdefgh")
    assert await channel.receive(3) == b"abc"
    assert (await channel.receive(3))[:2] == b"de"


async def test_a_guest_that_closes_ends_the_channel_for_good(channel, guest):
    connection = guest()
    connection.sendall(b"last")
    connection.close()
    assert await receive_exactly(channel, 4) == b"last"
    assert await channel.receive() == b""
    assert await channel.receive() == b""
    with pytest.raises(BrokenPipeError):
        for _ in range(1000):
            await channel.send(bytes(65536))


async def test_a_reader_that_stops_holds_up_the_guest(channel, guest):
    connection = guest()
    connection.settimeout(0.5)
    sent = 0

    def push():
        nonlocal sent
        try:
            while sent < 64 << 20:
                sent += connection.send(bytes(1 << 16))
        except TimeoutError:
            pass

    await anyio.to_thread.run_sync(push)
    assert sent < 32 << 20
    assert len(await receive_exactly(channel, sent)) == sent


async def test_a_guest_that_stops_reading_holds_up_the_sender(channel, guest):
    connection = guest()
    sent = 0
    while sent < 64 << 20:
        with anyio.move_on_after(0.5) as scope:
            await channel.send(bytes(1 << 16))
            sent += 1 << 16
        if scope.cancelled_caught:
            break
    assert 1 << 20 <= sent < 32 << 20
    assert len(await read_exactly(connection, sent)) == sent


async def test_a_second_connection_is_refused_and_told(channel, guest, told):
    first = guest()
    first.sendall(b"1")
    assert await channel.receive() == b"1"
    second = guest()
    assert await anyio.to_thread.run_sync(second.recv, 1) == b""
    assert told == ["propolis: refused a second connection to the agent's port"]
    first.sendall(b"2")
    assert await channel.receive() == b"2"


async def test_who_keeps_dialling_does_not_fill_the_log(channel, guest, told):
    guest().sendall(b"x")
    assert await channel.receive() == b"x"
    for _ in range(20):
        assert await anyio.to_thread.run_sync(guest().recv, 1) == b""
    assert len(told) == 5


async def test_a_machine_that_ends_before_it_dialled_ends_the_wait_at_once(channel):
    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(5):
            tasks.start_soon(anyio.sleep, 0)
            channel.machine_ended()
            assert await channel.receive() == b""
    with pytest.raises(BrokenPipeError):
        await channel.send(b"x")


async def test_what_an_ended_machine_sent_last_still_arrives_and_then_the_end(channel, guest):
    connection = guest()
    connection.sendall(b"a")
    assert await channel.receive() == b"a"
    channel.machine_ended()
    connection.sendall(b"b")
    assert await channel.receive() == b"b"
    with anyio.fail_after(5):
        assert await channel.receive() == b""


async def test_closing_wakes_a_receiver_and_refuses_bytes(channel):
    async with anyio.create_task_group() as tasks:

        async def receive():
            assert await channel.receive() == b""

        tasks.start_soon(receive)
        await anyio.sleep(0.05)
        await channel.aclose()
    await channel.aclose()
    with pytest.raises(BrokenPipeError):
        await channel.send(b"x")


async def test_a_cancelled_receiver_loses_nothing(channel, guest):
    with anyio.move_on_after(0.05):
        await channel.receive()
    guest().sendall(b"kept")
    assert await receive_exactly(channel, 4) == b"kept"
