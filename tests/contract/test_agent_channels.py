"""What every `ByteChannel` promises, held against the one in memory; other kinds join the fixture as they come."""

from contextlib import asynccontextmanager

import anyio
import pytest

from propolis.testing.channels import memory_channel_pair

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@asynccontextmanager
async def memory_pair():
    first, second = memory_channel_pair()
    try:
        yield first, second
    finally:
        await first.aclose()
        await second.aclose()


@pytest.fixture(params=[memory_pair], ids=["memory"])
def pair(request):
    return request.param


async def test_bytes_arrive_in_order_and_receive_keeps_its_limit(pair):
    data = bytes(range(256)) * 4096
    async with pair() as (first, second), anyio.create_task_group() as tasks:
        tasks.start_soon(first.send, memoryview(data))
        received = b""
        while len(received) < len(data):
            piece = await second.receive(1000)
            assert 1 <= len(piece) <= 1000
            received += piece
        assert received == data


async def test_both_directions_work_at_once(pair):
    async with pair() as (first, second):
        await first.send(b"forth")
        await second.send(b"back")
        assert (await first.receive(), await second.receive()) == (b"back", b"forth")


async def test_what_was_sent_before_closing_is_received_then_the_end(pair):
    async with pair() as (first, second):
        await first.send(b"last")
        await first.aclose()
        await first.aclose()
        assert [await second.receive() for _ in range(3)] == [b"last", b"", b""]


async def test_sending_to_nobody_is_a_broken_pipe(pair):
    async with pair() as (first, second):
        await second.aclose()
        with pytest.raises(BrokenPipeError):
            await first.send(b"x")
            await first.send(b"x")


async def test_a_waiting_receiver_learns_of_the_end(pair):
    async with pair() as (first, second), anyio.create_task_group() as tasks:
        with anyio.fail_after(5):
            tasks.start_soon(first.aclose)
            assert await second.receive() == b""
