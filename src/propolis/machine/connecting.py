"""From a machine's name to a connection with its owner, which is another process of this user."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread

from propolis.agent.builtins import Builtins
from propolis.agent.client import AgentClient
from propolis.agent.process import GuestProcess
from propolis.agent.relay import DETACH
from propolis.errors import MachineError, MachineNotFound
from propolis.host import system
from propolis.host.directories import data_directory
from propolis.machine.control import SOCKET
from propolis.spec import Process
from propolis.state.record import MachineRecord
from propolis.state.store import MachineStore, has_ended, is_running

_ANSWER_TIMEOUT = 20.0
"""Seconds for an owner to greet; it does at once, unless it is stopped or its host is overloaded."""
_PARTING = 10.0
"""Seconds for an owner to force a machine off and remove what it had."""
_POLL = 0.02
_MOST_DOCUMENT = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """A machine that another process owns."""

    record: MachineRecord
    process: Process
    """Its workload."""
    agent: AgentClient
    programs: Builtins
    """The owner's programs, and the agent's."""


@asynccontextmanager
async def connected(name: str) -> AsyncIterator[Connected]:
    """Connect to the owner of the machine called `name`: by its name, its id, or as much of its id as is unique.

    Raises:
        MachineNotFound: no machine that runs is called that.
        InvalidArgument: several are.
        MachineError: its owner does not answer.
    """
    record = await anyio.to_thread.run_sync(MachineStore(data_directory()).find, name)
    try:
        connection = system.connect(record.directory / SOCKET)
    except OSError as error:
        raise _unreachable(record) from error
    async with AgentClient(connection) as agent:
        await agent.hello(_ANSWER_TIMEOUT)
        process = Process.from_json((await _inspect(agent))["process"])
        yield Connected(record=record, process=process, agent=agent, programs=Builtins(agent, process.working_dir))


async def identity(agent: AgentClient) -> tuple[str, str]:
    """Id and name of the machine at the other end of `agent`."""
    document = await _inspect(agent)
    return document["id"], document["name"]


async def _inspect(agent: AgentClient) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(await Builtins(agent).output("host.inspect", most=_MOST_DOCUMENT))
    return document


async def attach_to(agent: AgentClient, *, eof: bool = False) -> GuestProcess:
    """The workload, as if it had been started here; with `eof` the end of input here is the end of its own.

    Raises:
        CommandNotFound: its owner uses the workload's streams itself.
        MachineLost: the machine went away.
    """
    return await agent.exec(Process(argv=("host.attach", *(["eof"] if eof else [])), builtin=True))


async def leave(agent: AgentClient) -> None:
    """Tell the owner that this connection is about to end and that everything shall go on; use it no more."""
    await (await agent.exec(Process(argv=(DETACH,), builtin=True))).wait()


async def stop(name: str, grace: float) -> None:
    """End a machine's processes (SIGTERM, after `grace` seconds SIGKILL); returns when nothing of it is left.

    Raises:
        As `connected`, and
        MachineError: it is still there long after that.
    """
    async with connected(name) as machine:
        record = machine.record
        with anyio.move_on_after(grace + _PARTING):
            await machine.agent.shutdown(grace)
    store = MachineStore(data_directory())
    give_up = anyio.current_time() + _PARTING
    while known := [known for known in store.living() if known.id == record.id]:
        if anyio.current_time() > give_up:
            raise _still_there(known[0])
        await anyio.sleep(_POLL)


def _still_there(record: MachineRecord) -> MachineError:
    if has_ended(record):
        return MachineError(
            f"the machine {record.name} has ended, but process {record.owner.pid}, which started it, keeps its place",
            hint="its name and its disk go when that process leaves the machine, or ends",
        )
    return MachineError(
        f"the machine {record.name} does not end",
        hint=f"its owner is process {record.owner.pid}: see what that waits for",
    )


def _unreachable(record: MachineRecord) -> MachineError:
    if not is_running(record.owner):
        return MachineNotFound(f"the machine {record.name} has just ended", hint="see `propolis ps`")
    return MachineError(
        f"the machine {record.name} cannot be reached", hint="it may be starting or ending: try again in a moment"
    )
