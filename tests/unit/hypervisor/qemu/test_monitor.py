import json

import anyio
import pytest

from propolis.errors import BackendError
from propolis.hypervisor.qemu.monitor import Monitor
from propolis.testing.channels import memory_channel_pair

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}}}
pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture
async def wire():
    """A monitor and the QEMU at the other end of its stream."""
    ours, qemus = memory_channel_pair(100)
    yield Monitor(ours), qemus
    await ours.aclose()
    await qemus.aclose()


def line(document):
    return json.dumps(document).encode() + b"\r\n"


async def test_negotiation_takes_the_greeting_and_asks_for_commands(wire):
    monitor, qemu = wire
    await qemu.send(line(GREETING) + line({"return": {}}))
    await monitor.negotiate()
    assert json.loads(await qemu.receive()) == {"execute": "qmp_capabilities"}


async def test_events_between_command_and_reply_are_passed_over(wire):
    monitor, qemu = wire
    await qemu.send(line({"event": "RESUME", "data": {}}))
    await qemu.send(line({"return": {"running": True}})[:10])
    await qemu.send(line({"return": {"running": True}})[10:])
    assert await monitor.execute("query-status") == {"running": True}


async def test_each_of_several_callers_gets_its_own_reply(wire):
    monitor, qemu = wire
    replies = {}

    async def ask(name):
        replies[name] = await monitor.execute(name)

    async with anyio.create_task_group() as tasks:
        for name in ("a", "b", "c"):
            tasks.start_soon(ask, name)
        for _ in range(3):
            command = json.loads(await qemu.receive())
            await qemu.send(line({"return": command["execute"]}))
    assert replies == {"a": "a", "b": "b", "c": "c"}


async def test_a_refusal_has_qemus_words(wire):
    monitor, qemu = wire
    await qemu.send(line({"error": {"class": "GenericError", "desc": "no such thing"}}))
    with pytest.raises(BackendError, match="refused stop: no such thing"):
        await monitor.execute("stop")


async def test_a_peer_that_does_not_greet_is_refused(wire):
    monitor, qemu = wire
    await qemu.send(line({"return": {}}))
    with pytest.raises(BackendError, match="greet"):
        await monitor.negotiate()


@pytest.mark.parametrize("call", ["negotiate", "execute"])
async def test_a_qemu_that_ends_is_an_error(wire, call):
    monitor, qemu = wire
    await qemu.aclose()
    with pytest.raises(BackendError, match="QEMU ended"):
        await (monitor.negotiate() if call == "negotiate" else monitor.execute("stop"))
