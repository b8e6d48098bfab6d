"""What works on this host, why not, and what to do: the rooms' own answers, gathered.

Nothing is installed, downloaded or changed, but for what `mend` removes: the remains of processes that were killed.
"""

from propolis.disk.cache import LayerCache
from propolis.errors import PropolisError
from propolis.guest.binaries import init_path
from propolis.guest.kernel import foreseen
from propolis.host.directories import cache_directory, data_directory
from propolis.hypervisor import registry
from propolis.hypervisor.base import Sweeping
from propolis.preflight import platform_checks
from propolis.preflight.checks import Check, Verdict, directory_check, resources_check
from propolis.spec import Architecture
from propolis.state.store import MachineStore


def examine() -> list[Check]:
    """All checks, those that decide whether a machine can run first."""
    platform = platform_checks()
    backends = [_backend(name) for name in registry.names()]
    if any(check.verdict is not Verdict.FAILURE for check in backends):
        # one that runs is enough
        platform, backends = ([_softened(check) for check in checks] for checks in (platform, backends))
    return [
        *backends,
        *platform,
        _kernel(),
        _guest_program(),
        directory_check("cache", cache_directory(), "PROPOLIS_CACHE"),
        _layer_cache(),
        directory_check("data", data_directory(), "PROPOLIS_DATA"),
        *_left(),
        resources_check(),
    ]


def mend() -> list[str]:
    """Remove what machines of dead processes left with hypervisors and on this host; says what was done."""
    done: list[str] = []
    sweeping: list[Sweeping] = []
    for name in registry.names():
        try:
            backend = registry.create(name)
            if isinstance(backend, Sweeping):
                sweeping.append(backend)
                if backend.availability().usable:
                    done += backend.sweep()
        except PropolisError as error:
            done.append(f"backend {name}: {error}")
    # after the hypervisors, as a machine that runs holds its disks
    store = MachineStore(data_directory())
    removed = store.sweep(lambda machine_id: any(backend.holds(machine_id) for backend in sweeping))
    done += [
        f"machine {record.id} of a dead process is still in use, so {record.directory} stays" for record in store.dead()
    ]
    return [*done, f"machines of dead processes removed: {removed}"]


def _backend(name: str) -> Check:
    try:
        found = registry.create(name).availability()
    except PropolisError as error:
        return Check(name=f"backend {name}", verdict=Verdict.FAILURE, found=str(error), remedy=error.hint)
    verdict = Verdict.OK if found.accelerated else Verdict.WARNING if found.usable else Verdict.FAILURE
    return Check(name=f"backend {name}", verdict=verdict, found=found.reason, remedy=found.remedy)


def _softened(check: Check) -> Check:
    if check.verdict is not Verdict.FAILURE:
        return check
    return Check(name=check.name, verdict=Verdict.WARNING, found=check.found, remedy=check.remedy)


def _kernel() -> Check:
    try:
        return Check(name="kernel", verdict=Verdict.OK, found=foreseen(cache_directory(), Architecture.X86_64))
    except PropolisError as error:
        return Check(name="kernel", verdict=Verdict.FAILURE, found=str(error), remedy=error.hint)


def _layer_cache() -> Check:
    directory = cache_directory() / "layers"
    disks = LayerCache(directory).disks()
    damaged = [disk.size for disk in disks if disk.is_damaged]
    whole = [disk.size for disk in disks if not disk.is_damaged]
    found = f"{len(whole)} disks, {sum(whole) >> 20} MiB"
    if not damaged:
        return Check(name="layer disks", verdict=Verdict.OK, found=found)
    return Check(
        name="layer disks",
        verdict=Verdict.WARNING,
        found=f"{found}; {len(damaged)} damaged ones put aside, {sum(damaged) >> 20} MiB",
        remedy="they were made again; check the host's storage, then run `propolis image prune`",
    )


def _left() -> list[Check]:
    """Machines of dead processes; nothing where there are none."""
    if not (data_directory() / "state.db").exists():
        return []
    try:
        dead = MachineStore(data_directory()).dead()
    except PropolisError as error:
        return [Check(name="machines", verdict=Verdict.FAILURE, found=str(error), remedy=error.hint)]
    if not dead:
        return []
    found = f"{len(dead)} of dead processes are left: {', '.join(record.id for record in dead[:4])}"
    return [Check(name="machines", verdict=Verdict.WARNING, found=found, remedy="propolis doctor --fix")]


def _guest_program() -> Check:
    try:
        return Check(name="guest init", verdict=Verdict.OK, found=str(init_path(Architecture.X86_64)))
    except PropolisError as error:
        return Check(name="guest init", verdict=Verdict.FAILURE, found=str(error), remedy=error.hint)
