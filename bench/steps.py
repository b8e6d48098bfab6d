"""One run of an image, taken apart: prints the seconds of each step as JSON. Runs in this host's Python or in Windows'.

Usage: steps.py IMAGE BACKEND. Steps of the launch are those that `--timing` tells; the calls of HCS are timed from
their submission to their result.
"""

import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()

import anyio

from propolis.hypervisor import registry
from propolis.hypervisor.hyperv import document, requests
from propolis.hypervisor.hyperv.access import Access
from propolis.hypervisor.hyperv.backend import HypervBackend
from propolis.machine.launch import launch
from propolis.machine.options import machine_spec

CALLS = {"HcsCreateComputeSystem", "HcsStartComputeSystem", "HcsTerminateComputeSystem"}


class Clock:
    """Seconds by step; a reporter of `launch`, too."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begun: dict[str, float] = {}

    def begin(self, step: str, subject: str = "", total: int | None = None) -> None:
        self._begun[step] = time.perf_counter()

    def advance(self, step: str, subject: str = "", amount: int = 0) -> None:
        pass

    def end(self, step: str, subject: str = "") -> None:
        self.add(step, time.perf_counter() - self._begun[step])

    def notice(self, text: str) -> None:
        pass

    def add(self, step: str, seconds: float) -> None:
        self.seconds[step] = self.seconds.get(step, 0.0) + seconds

    def timed(self, function: Callable[..., Any], name: Callable[..., str | None]) -> Callable[..., Any]:
        """`function`, whose calls are counted under what `name` says of their arguments."""

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            before = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                if (step := name(*arguments)) is not None:
                    self.add(step, time.perf_counter() - before)

        return call


def main() -> None:
    """Run `true` in the machine, and print."""
    image, backend = sys.argv[1:]
    clock = Clock()
    clock.add("Python, imports", time.perf_counter() - BEGAN)
    watch(clock)
    with tempfile.TemporaryDirectory(prefix="p") as pipes:
        if "STAND_IN" in os.environ and backend == "hyperv":
            use_stand_in(Path(pipes))
        before = time.perf_counter()
        anyio.run(run, clock, image, backend)
    clock.add("whole, without imports", time.perf_counter() - before)
    print(json.dumps(clock.seconds))


def watch(clock: Clock) -> None:
    """Time what the backend does in its start."""
    document.build = clock.timed(document.build, lambda *_: "boot: document")
    requests.perform = clock.timed(requests.perform, lambda _core, call, *_: f"boot: {call}" if call in CALLS else None)
    Access.grant = clock.timed(Access.grant, lambda *_: "boot: rights on files granted")


def use_stand_in(directory: Path) -> None:
    """Put the stand-in in the place of a Windows."""
    from hcs.linux import LinuxPlatform

    sockets = Path(os.environ["PROPOLIS_HVSOCKETS"])
    platform = LinuxPlatform(Path(os.environ["STAND_IN"]), directory, hvsockets=sockets)
    registry._BUILT_IN = {"hyperv": lambda: HypervBackend(platform)}


async def run(clock: Clock, image: str, backend: str) -> None:
    """Launch, run, end."""
    async with launch(machine_spec(image, ["true"], backend=backend), clock) as launched:
        for name, at in launched.hello.stamps.items():
            clock.add(f"guest's clock: {name}", at / 1000)
        before = time.perf_counter()
        process = await launched.agent.start()
        assert (await process.wait()).shell_code == 0
        clock.add("agent: workload's start to its exit", time.perf_counter() - before)
        before = time.perf_counter()
        await launched.shut_down(0.0)
        clock.add("end of the machine", time.perf_counter() - before)


main()
