"""Mounts that come and go while a machine runs: the backend shows a directory, the guest mounts it, and the way back.

Each step is undone if the next one fails. Memory (tmpfs) needs no backend. What the guest says is not trusted: it names
no path of this host, and is given a bounded time.
"""

import shutil
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import cast

import anyio
import anyio.to_thread

from propolis.agent.builtins import Builtins
from propolis.errors import DeadlineExceeded, FileError, InvalidArgument, PropolisError, ProtocolError, Unsupported
from propolis.hypervisor.base import HotPlugging
from propolis.machine.launch import Launched
from propolis.machine.mounts import MOST_MOUNTS, check_sources, prepare
from propolis.spec import GuestMount, Mount, Share

_GUEST_TIMEOUT = 30.0
"""Seconds for the guest to mount or unmount; it gives up reaching the host by itself before."""
_MOST_ANSWER = 1 << 20
_ENODEV = 19


@dataclass(frozen=True, slots=True)
class _Added:
    mount: Mount
    share: Share | None
    number: str
    """The guest's own name for the mount."""


class Mounting:
    """The mounts of one machine after its start. One change at a time."""

    def __init__(self, launched: Launched, builtins: Builtins) -> None:
        """Change the mounts of `launched`; nothing happens yet."""
        self._launched = launched
        self._builtins = builtins
        self._added: dict[PurePosixPath, _Added] = {}
        self._count = 0
        self._turn = anyio.Lock()

    async def add(self, mount: Mount) -> None:
        """See `AsyncMachine.mount`; `mount` is a checked one."""
        async with self._turn:
            self._check(mount)
            self._count += 1
            share, told = await anyio.to_thread.run_sync(self._prepare, mount, f"later{self._count}-")
            with anyio.CancelScope(shield=True):  # the guest's answer is waited for, or nobody knew what to undo
                try:
                    if share is not None:
                        await self._plug().add_share(share)
                    number = await self._mount(told)
                except BaseException:
                    await self._take_back(share)
                    raise
            self._added[PurePosixPath(mount.target)] = _Added(mount, share, number)

    async def remove(self, target: str) -> None:
        """See `AsyncMachine.unmount`."""
        async with self._turn:
            place = PurePosixPath(target)
            if place not in self._added:
                raise InvalidArgument(
                    f"nothing was mounted at {target[:200]!r} while the machine ran",
                    hint="what it was started with stays until it ends",
                )
            added = self._added[place]
            with anyio.CancelScope(shield=True):
                await self._ask("unmount", str(place), added.number)
                if added.share is not None:
                    await self._plug().remove_share(added.share.tag)
                    await anyio.to_thread.run_sync(self._clean, added.share)
            del self._added[place]

    def _check(self, mount: Mount) -> None:
        backend, present = (
            self._launched.backend,
            [*self._launched.mounts, *(one.mount for one in self._added.values())],
        )
        if any(PurePosixPath(one.target) == PurePosixPath(mount.target) for one in present):
            raise InvalidArgument(f"there is a mount at {mount.target} already")
        if len(present) >= MOST_MOUNTS:
            raise InvalidArgument(f"a machine has at most {MOST_MOUNTS} mounts")
        if mount.source is None:
            return
        if not backend.capabilities.hot_plug:
            raise Unsupported(
                f"the {backend.name} backend shows a machine that runs no more directories",
                hint="mount it at the start, or copy it in",
            )
        if sum(one.source is not None for one in present) >= backend.capabilities.max_shares:
            raise Unsupported(
                f"the {backend.name} backend shares at most {backend.capabilities.max_shares} directories"
            )

    def _prepare(self, mount: Mount, prefix: str) -> tuple[Share | None, GuestMount]:
        check_sources((mount,))
        shares, (told,) = prepare((mount,), self._launched.record.directory, prefix)
        return (shares[0] if shares else None), told

    async def _mount(self, told: GuestMount) -> str:
        access = "ro" if told.read_only else "rw"
        try:
            answer = await self._ask("mount", told.target, told.type, told.source, told.options, access)
        except FileError as error:
            if error.errno == _ENODEV:
                error.hint = "the machine's kernel has no driver for it; try another --kernel"
            raise
        number = answer.strip()
        if not number.isdigit():
            raise ProtocolError("the guest did not say what it mounted")
        return number.decode()

    async def _ask(self, *argv: str) -> bytes:
        try:
            with anyio.fail_after(_GUEST_TIMEOUT):
                return await self._builtins.output(*argv, most=_MOST_ANSWER)
        except TimeoutError as error:
            raise DeadlineExceeded(f"the guest did not {argv[0]} {argv[1]} within {_GUEST_TIMEOUT:g} s") from error

    def _plug(self) -> HotPlugging:
        return cast("HotPlugging", self._launched.handle)

    async def _take_back(self, share: Share | None) -> None:
        """After a failure, which is what is told; the machine's end takes the share in any case."""
        if share is None:
            return
        try:
            await self._plug().remove_share(share.tag)
        except PropolisError:
            pass
        await anyio.to_thread.run_sync(self._clean, share)

    def _clean(self, share: Share) -> None:
        """Single files lie in a directory of the machine's own."""
        own = self._launched.record.directory
        if share.path.parent == own:
            shutil.rmtree(own / share.tag, ignore_errors=True)
