"""One process among several that use the same store, for tests: `store_worker.py ROLE SECONDS NAME...`.

Machines are in memory (`propolis.testing`). Prints one JSON object: how often it did what, and what went wrong.
"""

import contextlib
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import anyio

from propolis.errors import ImageInUse, ImageNotFound
from propolis.guest.features import Ability
from propolis.hypervisor import registry
from propolis.machine import launch as launching
from propolis.machine.grouping import ungrouped
from propolis.machine.handle import AsyncMachine
from propolis.testing.backend import MemoryBackend
from propolis.testing.guest import FakeGuest

PATIENCE = 60


class Backend(MemoryBackend):
    """Machines whose guests answer."""

    async def start(self, config):
        handle = await super().start(config)
        self.tasks.start_soon(self.serve, handle)
        return handle

    async def serve(self, handle):
        with contextlib.suppress(BrokenPipeError), ungrouped():
            await FakeGuest(handle.guest, {"init": sleep}).serve()
            await handle.power_off()


async def sleep(process):
    """What machines run: nothing, until they are to end."""
    while not process.signals:  # noqa: ASYNC110
        await anyio.sleep(0.005)


BACKEND = Backend()


def prepare():
    """No hypervisor and no kernel are needed."""
    registry._BUILT_IN = {"memory": lambda: BACKEND}
    empty = Path(tempfile.gettempdir()) / "propolis-store-worker"
    empty.touch()
    kernel = SimpleNamespace(release="6.1", abilities=frozenset(Ability) - {Ability.HYPERV})
    launching.find_kernel = lambda *_: kernel
    launching.boot_files = lambda *_, **__: (empty, empty)


def goes_on(until, count):
    """Until then, or until something was done, where that takes longer."""
    now = time.monotonic()
    return now < until or (not count and now < until + PATIENCE)


async def start(until, names):
    """Start machines, and look whether their disks stay as long as they run."""
    count, faults = 0, []
    with ungrouped():
        async with anyio.create_task_group() as BACKEND.tasks:
            while goes_on(until, count) and not faults:
                name = random.choice(names)
                try:
                    async with AsyncMachine.start(name):
                        paths = [disk.path for disk in BACKEND.machines[-1].config.disks]
                        for _ in range(5):
                            faults += [f"{path} is gone" for path in paths if not path.is_file()]
                            await anyio.sleep(random.random() / 50)
                    count += 1
                except Exception as error:  # noqa: BLE001
                    faults.append(f"start of {name}: {type(error).__name__}: {error}")
                BACKEND.machines.clear()
            BACKEND.tasks.cancel_scope.cancel()
    return count, faults


def repeat(until, act):
    """Do something until then; what has to be refused may be."""
    count, faults = 0, []
    while goes_on(until, count) and not faults:
        try:
            count += act()
        except (ImageInUse, ImageNotFound):
            time.sleep(0.01)
        except Exception as error:  # noqa: BLE001
            faults.append(f"{type(error).__name__}: {error}")
    return count, faults


def main():
    role, seconds, names = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
    until = time.monotonic() + seconds
    prepare()
    from propolis.images.collection import prune, remove
    from propolis.machine.pulling import pull

    if role == "start":
        count, faults = anyio.run(start, until, names)
    elif role == "prune":
        count, faults = repeat(until, lambda: len(prune(all=True, blobs=random.random() < 0.5).removed))
    elif role == "rmi":
        count, faults = repeat(until, lambda: len(remove(random.choice(names), force=True).untagged))
    else:
        count, faults = repeat(until, lambda: len(pull(random.choice(names)).layers))
    json.dump({"role": role, "count": count, "faults": faults}, sys.stdout)


if __name__ == "__main__":
    main()
