"""Mounts of a machine that runs: what backend and guest are asked, in which order, and what is undone."""

import contextlib
from dataclasses import replace
from types import SimpleNamespace

import anyio
import pytest

from propolis.errors import BackendError, DeadlineExceeded, FileError, InvalidArgument, ProtocolError, Unsupported
from propolis.machine import mounting as module
from propolis.machine.mounting import Mounting
from propolis.spec import BootPlan, Mount, VMConfig
from propolis.testing.backend import MemoryBackend, MemoryHandle

pytestmark = pytest.mark.anyio

BUSY = FileError("in the machine: /m: Device or resource busy", number=16, path="/m")


class Guest:
    """In place of the agent's builtins: each answer is bytes, an error, or None for silence."""

    def __init__(self):
        self.asked, self.answers = [], []

    async def output(self, *argv, most):
        self.asked.append(argv)
        answer = self.answers.pop(0) if self.answers else b"7\n" if argv[0] == "mount" else b""
        if answer is None:
            await anyio.sleep_forever()
        if isinstance(answer, Exception):
            raise answer
        assert len(answer) <= most
        return answer


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture
async def machine(tmp_path):
    for name in ("own", "shared"):
        (tmp_path / name).mkdir()
    (tmp_path / "single").write_text("alone")
    boot = BootPlan(kernel=tmp_path, initramfs=tmp_path, cmdline="")
    handle = MemoryHandle(VMConfig(id="m", boot=boot, disks=(), cpus=1, memory=1, directory=tmp_path / "own"))
    launched = SimpleNamespace(
        backend=MemoryBackend(),
        handle=handle,
        record=SimpleNamespace(directory=tmp_path / "own"),
        mounts=(Mount(source=tmp_path / "shared", target="/first"),),
    )
    guest = Guest()
    shared = tmp_path / "shared"
    yield SimpleNamespace(
        launched=launched, guest=guest, handle=handle, shared=shared, mounting=Mounting(launched, guest)
    )
    await handle.stop()


def left(machine):
    return [*machine.handle.shares, *machine.launched.record.directory.iterdir()]


async def test_a_directory_comes_and_goes(machine):
    await machine.mounting.add(Mount(source=machine.shared, target="/m/", read_only=True))
    (share,) = machine.handle.shares.values()
    assert (share.path, share.read_only) == (machine.shared, True)
    await machine.mounting.remove("/m")
    assert machine.guest.asked == [("mount", "/m/", "share", share.tag, "", "ro"), ("unmount", "/m", "7")]
    assert left(machine) == []


async def test_a_file_is_shared_alone(machine):
    await machine.mounting.add(Mount(source=machine.shared.parent / "single", target="/m"))
    (share,) = machine.handle.shares.values()
    assert [path.read_text() for path in share.path.iterdir()] == ["alone"]
    await machine.mounting.remove("/m")
    assert left(machine) == []


async def test_memory_needs_no_backend(machine):
    none = replace(MemoryBackend.capabilities, hot_plug=False, max_shares=0)
    machine.launched.backend = SimpleNamespace(name="memory", capabilities=none)
    await machine.mounting.add(Mount(type="tmpfs", target="/m", size=1 << 20))
    assert machine.guest.asked == [("mount", "/m", "tmpfs", "", "mode=1777,size=1048576", "rw")]
    with pytest.raises(Unsupported, match="the memory backend") as caught:
        await machine.mounting.add(Mount(source=machine.shared, target="/n"))
    assert "at the start" in caught.value.hint
    assert len(machine.guest.asked) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(BUSY, FileError), (b"no number", ProtocolError), (b"", ProtocolError), (None, DeadlineExceeded)],
)
async def test_what_the_guest_refuses_is_taken_back(machine, monkeypatch, answer, kind):
    monkeypatch.setattr(module, "_GUEST_TIMEOUT", 0.05)
    machine.guest.answers = [answer]
    with pytest.raises(kind):
        await machine.mounting.add(Mount(source=machine.shared.parent / "single", target="/m"))
    assert left(machine) == []
    await machine.mounting.add(Mount(source=machine.shared, target="/m"))


async def test_a_kernel_without_drivers_is_told(machine):
    machine.guest.answers = [FileError("No such device", number=19, path="/m")]
    with pytest.raises(FileError) as caught:
        await machine.mounting.add(Mount(source=machine.shared, target="/m"))
    assert "--kernel" in caught.value.hint


async def test_what_is_in_use_stays_and_what_the_hypervisor_keeps_can_be_tried_again(machine, monkeypatch):
    await machine.mounting.add(Mount(source=machine.shared, target="/m"))
    machine.guest.answers = [BUSY]
    with pytest.raises(FileError, match="busy"):
        await machine.mounting.remove("/m")
    assert len(machine.handle.shares) == 1

    async def refuse(tag):
        raise BackendError(f"no: {tag}")

    with monkeypatch.context() as patch:
        patch.setattr(machine.handle, "remove_share", refuse)
        with pytest.raises(BackendError):
            await machine.mounting.remove("/m")
    await machine.mounting.remove("/m")
    assert left(machine) == []


async def test_a_cancelled_change_is_undone(machine, monkeypatch):
    monkeypatch.setattr(module, "_GUEST_TIMEOUT", 0.2)
    machine.guest.answers = [None]
    with anyio.move_on_after(0.05), contextlib.suppress(DeadlineExceeded):
        await machine.mounting.add(Mount(source=machine.shared, target="/m"))
    assert left(machine) == []
    assert machine.guest.asked[0][0] == "mount"


async def test_one_mount_at_a_place_and_so_many_in_all(machine, monkeypatch):
    await machine.mounting.add(Mount(source=machine.shared, target="/m"))
    for target in ("/m", "/m/", "/first"):
        with pytest.raises(InvalidArgument, match="already"):
            await machine.mounting.add(Mount(source=machine.shared, target=target))
    with pytest.raises(InvalidArgument, match="nothing was mounted at '/first'"):
        await machine.mounting.remove("/first")
    with pytest.raises(InvalidArgument, match="no such file"):
        await machine.mounting.add(Mount(source=machine.shared / "absent", target="/n"))
    for number in range(6):
        await machine.mounting.add(Mount(source=machine.shared, target=f"/many/{number}"))
    with pytest.raises(Unsupported, match="at most 8"):
        await machine.mounting.add(Mount(source=machine.shared, target="/n"))
    monkeypatch.setattr(module, "MOST_MOUNTS", 8)
    with pytest.raises(InvalidArgument, match="at most 8"):
        await machine.mounting.add(Mount(type="tmpfs", target="/n"))
