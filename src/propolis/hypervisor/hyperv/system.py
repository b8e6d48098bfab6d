"""One compute system of HCS: its requests, its events, its end.

Used from the event loop that made it. Requests run in threads that are waited for; the handle is closed only when none
is under way; the callback is registered before the start and kept for the handle's life.
"""

import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import anyio

from propolis.errors import BackendError
from propolis.hypervisor.hyperv import hresult, requests
from propolis.hypervisor.hyperv._ffi import ComputeCore, EventType, Operation, Outcome, System
from propolis.hypervisor.hyperv.document import save_options
from propolis.hypervisor.hyperv.events import Exit, parse_crash, parse_exit
from propolis.hypervisor.hyperv.threads import bell, in_thread

_T = TypeVar("_T")
_Submit = Callable[[System, Operation], int]
TERMINATION = 30.0
"""Seconds for a terminated machine to be gone."""
_DISCONNECTED = 0x8037011E


class ComputeSystem:
    """A compute system: `create`, `watch`, `start`, at last `close`, which never fails and may be repeated."""

    def __init__(self, core: ComputeCore, identity: uuid.UUID) -> None:
        self.identity = identity
        self.ended = anyio.Event()
        """Set when the machine is gone, for whatever reason."""
        self.exit: Exit | None = None
        self.crash = ""
        """The guest's last words, where it could leave them with the hypervisor."""
        self.on_end: Callable[[], None] | None = None
        """Called once, in the event loop, when the machine has ended by itself."""
        self._core = core
        self._system: System | None = None
        self._callback: object = None
        self._ring = bell()
        self._refused = self._started = self._terminated = False
        self._closing = threading.Event()
        self._under_way = 0
        self._idle = anyio.Event()

    async def create(self, document: Mapping[str, Any]) -> None:
        """Make the system. Whatever comes of it, `close` is to follow.

        Raises:
            PropolisError: refused; says why.
        """
        text = requests.encode(document)

        def submit(operation: Operation) -> int:
            code, system = self._core.create_system(str(self.identity), text, operation)
            self._system = system  # at once: a cancelled caller must still be able to close it
            return code

        call = "HcsCreateComputeSystem"
        outcome = await self._run(lambda given_up: requests.perform(self._core, call, submit, given_up))
        if not outcome.ok:
            self._refused = hresult.normal(outcome.code) != hresult.OPERATION_TIMEOUT
            raise hresult.error("the machine cannot be created", outcome.code, outcome.document, call=call)

    async def watch(self) -> None:
        """Hear of the system's events from now on.

        Raises:
            PropolisError: refused.
        """

        def register(system: System) -> int:
            code, self._callback = self._core.set_system_callback(system, self._heard)
            return code

        system = self._handle()
        code = await self._run(lambda _: register(system))
        if not Outcome(code).ok:
            raise hresult.error("the machine cannot be watched", code, call="HcsSetComputeSystemCallback")

    async def runtime_id(self) -> uuid.UUID:
        """The id under which the running machine is known to sockets.

        Raises:
            PropolisError: HCS does not say.
        """
        system = self._handle()
        outcome, found = await self._run(lambda given_up: requests.properties(self._core, system, given_up))
        if not outcome.ok:
            call = "HcsGetComputeSystemProperties"
            raise hresult.error("the machine's properties cannot be read", outcome.code, outcome.document, call=call)
        try:
            return uuid.UUID(found["RuntimeId"])
        except (KeyError, ValueError, TypeError, AttributeError):
            return self.identity  # they are the same for systems whose id is a GUID

    async def start(self) -> None:
        """Power on.

        Raises:
            PropolisError: refused; says why.
        """
        self._started = True
        await self._request("the machine cannot be started", "HcsStartComputeSystem", self._core.start_system)

    async def pause(self) -> None:
        """Stop the processors.

        Raises:
            PropolisError: refused.
        """
        await self._request("the machine cannot be paused", "HcsPauseComputeSystem", self._core.pause_system)

    async def resume(self) -> None:
        """Let the processors run again.

        Raises:
            PropolisError: refused.
        """
        await self._request("the machine cannot be resumed", "HcsResumeComputeSystem", self._core.resume_system)

    async def save(self, path: str) -> None:
        """Write the paused machine's state to `path`, an empty runtime state file that it may write to.

        Raises:
            PropolisError: refused.
        """
        options = requests.encode(save_options(path))
        await self._request(
            "the machine cannot be saved",
            "HcsSaveComputeSystem",
            lambda system, operation: self._core.save_system(system, operation, options),
        )

    async def modify(self, what: str, request: Mapping[str, Any], token: int | None = None) -> None:
        """Change the running machine, with an access token where that matters; `what` begins the error's sentence.

        Raises:
            PropolisError: refused.
        """
        text = requests.encode(request)
        await self._request(
            what,
            "HcsModifyComputeSystem",
            lambda system, operation: self._core.modify_system(system, operation, text, token),
        )

    async def shut_down(self, options: Mapping[str, Any] | None = None) -> None:
        """Ask the guest to power off, which needs a service in it that Windows talks to.

        Raises:
            PropolisError: refused, also where the guest has no such service.
        """
        text = requests.encode(options) if options is not None else None
        await self._request(
            "the machine cannot be shut down",
            "HcsShutDownComputeSystem",
            lambda system, operation: self._core.shut_down_system(system, operation, text),
        )

    async def terminate(self) -> None:
        """End the machine now, and wait up to `TERMINATION` seconds for its end. One that is gone already is fine.

        Asked again, or of one whose creation was refused, it does nothing.

        Raises:
            PropolisError: refused.
        """
        call = "HcsTerminateComputeSystem"
        if self._system is None or self._refused or self._terminated or self.ended.is_set():
            return
        outcome = await self._outcome(call, self._core.terminate_system)
        if not outcome.ok and hresult.normal(outcome.code) not in hresult.GONE:
            raise hresult.error("the machine cannot be terminated", outcome.code, outcome.document, call=call)
        self._terminated = True
        if outcome.ok and self._started:  # else no event tells of its end
            with anyio.move_on_after(TERMINATION):
                await self.ended.wait()

    async def close(self) -> None:
        """Let go of the system, which ends it if it still runs. Not before every call has come back."""
        with anyio.CancelScope(shield=True):
            self._closing.set()
            while self._under_way:
                self._idle = anyio.Event()
                await self._idle.wait()
            system, self._system = self._system, None
            if system is not None:
                await in_thread(lambda _: self._core.close_system(system))
            self._callback = None
            self.ended.set()

    async def _request(self, what: str, call: str, submit: _Submit) -> str | None:
        outcome = await self._outcome(call, submit)
        if not outcome.ok:
            raise hresult.error(what, outcome.code, outcome.document, call=call)
        return outcome.document

    async def _outcome(self, call: str, submit: _Submit) -> Outcome:
        system = self._handle()
        return await self._run(
            lambda given_up: requests.perform(self._core, call, lambda operation: submit(system, operation), given_up)
        )

    async def _run(self, work: Callable[[Callable[[], bool]], _T]) -> _T:
        """Run blocking work in a thread; `close` waits for it, and it is asked to end when nobody waits for it."""
        self._under_way += 1
        try:
            return await in_thread(lambda unwanted: work(lambda: unwanted.is_set() or self._closing.is_set()))
        finally:
            self._under_way -= 1
            self._idle.set()

    def _handle(self) -> System:
        if self._system is None or self._closing.is_set():
            raise BackendError("the machine is gone")
        return self._system

    def _heard(self, kind: int, data: str | None) -> None:
        """Take an event, in a thread of the library."""
        self._ring(lambda: self._take(kind, data))

    def _take(self, kind: int, data: str | None) -> None:
        if kind in (EventType.SYSTEM_CRASH_INITIATED, EventType.SYSTEM_CRASH_REPORT):
            self.crash = parse_crash(data) if data or not self.crash else self.crash
            return
        if kind == EventType.SYSTEM_EXITED:
            self.exit = parse_exit(data)
        elif kind == EventType.SERVICE_DISCONNECT:
            self.exit = Exit("ServiceDisconnect", _DISCONNECTED, hresult.explain(_DISCONNECTED).cause)
        else:
            return
        if not self.ended.is_set():
            self.ended.set()
            if self.on_end is not None:
                self.on_end()
