import socket
import sys
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from hcs.linux import LinuxPlatform
from propolis.errors import BackendError, BackendUnavailable, PropolisError, Unsupported
from propolis.hypervisor.hyperv import _ffi, hresult, requests
from propolis.hypervisor.hyperv.backend import HypervBackend
from propolis.hypervisor.hyperv.ledger import Ledger
from propolis.spec import Architecture, BootPlan, Disk, DiskFormat, InitConfig, Process, Share

pytestmark = pytest.mark.anyio

STARTING = (
    "HcsGrantVmAccess",
    "HcsCreateComputeSystem",
    "HcsGetComputeSystemProperties",
    "HcsSetComputeSystemCallback",
    "HcsStartComputeSystem",
)
"""What a start calls, in order."""
CODES = sorted({meaning.code for meaning in hresult.meanings()} - {hresult.OPERATION_TIMEOUT, 0x80370117})
"""Without those that say of an operation that it still runs."""


async def test_a_machine_runs_until_it_is_stopped_and_leaves_nothing(backend, config, left):
    handle = await backend.start(config)
    assert handle.is_alive
    await handle.stop()
    assert not handle.is_alive
    assert left(config) == []


async def test_twenty_starts_in_a_row_leave_nothing(backend, config, left):
    for _ in range(20):
        await (await backend.start(config)).stop()
    assert left(config) == []


async def test_machines_beside_each_other_leave_nothing(backend, config, left, tmp_path):
    async def run(number):
        disk = tmp_path / f"{number}.vhdx"
        disk.write_bytes(config.disks[0].path.read_bytes())
        mine = replace(config, id=f"{number:012x}", disks=(replace(config.disks[0], path=disk),))
        handle = await backend.start(mine)
        await anyio.sleep(0.01)
        await handle.stop()

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(run, number)
    assert left(config) == []


@pytest.mark.parametrize("immediate", [True, False], ids=["at-once", "later"])
@pytest.mark.parametrize("call", STARTING)
async def test_a_call_that_fails_is_told_with_its_cause_and_leaves_nothing(
    backend, config, left, faults, call, immediate
):
    faults(**{call: {"hresult": "0x800705AA", "immediate": immediate, "times": 1}})
    with pytest.raises(PropolisError) as caught:
        handle = await backend.start(config)
        await handle.stop()
    assert "not enough resources" in str(caught.value)
    assert caught.value.hint
    assert left(config) == []


async def test_a_call_that_fails_at_once_is_told_in_windows_words_too(backend, config, faults):
    words = {"Error": -1, "ErrorEvents": [{"Message": "Invalid JSON document '$.VirtualMachine.Chipset'"}]}
    faults(HcsCreateComputeSystem={"hresult": "0x8037010D", "immediate": True, "document": words})
    with pytest.raises(PropolisError, match=r"Windows says: Invalid JSON document '\$.VirtualMachine.Chipset'"):
        await backend.start(config)


async def test_what_all_may_read_needs_no_grant_that_only_its_owner_can_give(backend, config, left, faults):
    """A kernel that came with a program, say; the stand-in's machines may read what lies below /usr."""
    system = Path("/usr/bin/env")
    faults(HcsGrantVmAccess={"hresult": "0x80070005", "immediate": True, "times": 1})
    handle = await backend.start(replace(config, boot=replace(config.boot, kernel=system)))
    await handle.stop()
    assert left(config) == []


async def test_what_machines_may_not_read_is_named_if_it_cannot_be_granted(backend, config, left, faults):
    faults(HcsGrantVmAccess={"hresult": "0x80070005", "immediate": True, "times": 1})
    with pytest.raises(BackendError, match="E_ACCESSDENIED") as caught:
        await backend.start(config)
    assert f"may not change who reads {config.boot.kernel}" in caught.value.hint
    assert left(config) == []


async def test_a_disk_that_is_written_to_must_be_granted(backend, config, left, faults):
    faults(HcsGrantVmAccess={"hresult": "0x80070005", "immediate": True, "skip": 2})
    with pytest.raises(BackendError, match=r"cannot be given access to .*machine\.vhdx.*access list"):
        await backend.start(config)
    assert left(config) == []


@pytest.mark.parametrize("code", CODES, ids=hex)
async def test_every_code_gives_its_own_message_and_leaves_nothing(backend, config, left, faults, code):
    for call in ("HcsCreateComputeSystem", "HcsStartComputeSystem"):
        words = {"Error": code - (1 << 32), "ErrorEvents": [{"Message": f"words of Windows for {code:x}"}]}
        faults(**{call: {"hresult": hex(code), "times": 1, "document": words}})
        with pytest.raises(PropolisError) as caught:
            await backend.start(config)
        assert hresult.explain(code).cause in str(caught.value)
        assert f"words of Windows for {code:x}" in str(caught.value)
        assert caught.value.hint
    assert left(config) == []


async def test_a_refused_creation_is_all_that_is_told(backend, config, left, faults):
    faults(HcsCreateComputeSystem={"hresult": "0x80070005", "times": 1})
    with pytest.raises(PropolisError) as caught:
        await backend.start(config)
    assert "console" not in caught.value.hint  # where a machine that cannot be ended would be told of
    assert left(config) == []


async def test_a_service_that_never_answers_is_given_up_after_its_time(backend, config, left, faults, monkeypatch):
    monkeypatch.setitem(requests.TIMEOUTS, "HcsStartComputeSystem", 0.3)
    faults(HcsStartComputeSystem={"never": True, "times": 1})
    with pytest.raises(BackendError, match="did not answer in time"):
        await backend.start(config)
    assert left(config) == []


@pytest.mark.parametrize("call", STARTING[1:3] + STARTING[4:])
async def test_a_start_that_is_cancelled_while_windows_does_not_answer_leaves_nothing(
    backend, config, left, faults, call
):
    faults(**{call: {"never": True, "times": 1}})
    with anyio.move_on_after(0.3) as scope:
        await backend.start(config)
    assert scope.cancelled_caught
    assert left(config) == []


async def test_a_start_cancelled_at_any_await_leaves_nothing(backend, config, left):
    await (await backend.start(config)).stop()
    cancelled = 0
    for turns in range(120):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_after, turns, scope)
                handle = await backend.start(config)
                with anyio.CancelScope(shield=True):
                    await handle.stop()
                tasks.cancel_scope.cancel()
        cancelled += scope.cancelled_caught
        if turns % 40 == 0:
            assert left(config) == [], turns
    assert cancelled
    assert left(config) == []


async def _cancel_after(turns, scope):
    """Cancel after so many turns of the event loop and a while."""
    for _ in range(turns % 40):
        await anyio.lowlevel.checkpoint()
    await anyio.sleep(turns / 3000)
    scope.cancel()


@pytest.mark.parametrize("call", ["HcsTerminateComputeSystem", "HcsRevokeVmAccess"])
async def test_what_fails_while_a_machine_is_stopped_does_not_keep_the_rest(backend, config, left, faults, call):
    handle = await backend.start(config)
    faults(**{call: {"hresult": "0x80070020", "immediate": True, "times": 1}})
    with anyio.fail_after(20):
        await handle.stop()
    assert not handle.is_alive
    assert left(config) == []


async def test_rights_that_cannot_be_taken_back_stay_written(backend, config, faults, tmp_path, monkeypatch):
    monkeypatch.setattr("propolis.hypervisor.hyperv.access._PATIENCE", 0.2)
    handle = await backend.start(config)
    faults(HcsRevokeVmAccess={"hresult": "0x80070020", "immediate": True})
    await handle.stop()
    assert "could not be taken back" in handle.console()
    assert len(list((tmp_path / "records").glob("*.json"))) == 1


@pytest.mark.parametrize(
    ("fate", "words"),
    [("crash", "panic"), ("exit", ""), ("triple-fault", "triple fault"), ("service-disconnect", "restarted")],
)
async def test_a_guest_that_ends_is_noticed_and_told(backend, config, left, faults, fate, words):
    faults(guest=fate)
    handle = await backend.start(config)
    with anyio.fail_after(10):
        await handle.wait()
        channel = await handle.agent()
        assert await channel.receive() == b""
    assert not handle.is_alive
    assert words in handle.console().lower()
    await handle.stop()
    faults()
    assert left(config) == []


async def test_an_orderly_stop_waits_for_the_guest_first(backend, config, faults):
    faults(guest="exit")
    handle = await backend.start(config)
    with anyio.fail_after(10):
        await handle.stop(30.0)
    assert "Hyper-V:" not in handle.console()


async def test_a_guest_that_dials_twice_is_told(backend, config, platform):
    handle = await backend.start(config)
    try:
        address = platform.listeners[0].getsockname()
        with socket.create_connection(address) as agent:
            agent.sendall(b"x")
            assert await (await handle.agent()).receive() == b"x"
            with socket.create_connection(address) as second:
                assert await anyio.to_thread.run_sync(second.recv, 1) == b""
        assert "refused a second connection" in handle.console()
    finally:
        await handle.stop()


async def test_paused_it_is_resumed_and_saved(backend, config, left, tmp_path):
    handle = await backend.start(config)
    state = tmp_path / "saved.vmrs"
    with pytest.raises(BackendError, match="state"):
        await handle.save(state)
    assert not state.exists()
    await handle.pause()
    await handle.save(state)
    assert state.exists()
    with pytest.raises(BackendError, match="exists"):
        await handle.save(state)
    assert state.exists()
    await handle.resume()
    await handle.stop()
    assert left(config) == []


async def test_shares_come_and_go(backend, config, tmp_path):
    handle = await backend.start(config)
    try:
        share = Share(tag="m9", path=tmp_path, read_only=True)
        await handle.add_share(share)
        await handle.remove_share("m9")
        with pytest.raises(BackendError, match="m9"):
            await handle.remove_share("m9")
        with pytest.raises(BackendError, match="missing"):
            await handle.add_share(replace(share, path=tmp_path / "missing"))
    finally:
        await handle.stop()
    with pytest.raises(BackendError, match="gone"):
        await handle.add_share(share)


async def test_a_machine_is_told_where_its_files_are_and_not_where_we_see_them(backend, config, tmp_path):
    """As below AppData in a Python of the Microsoft Store, or on a drive made by `subst`."""
    seen = tmp_path / "seen"
    seen.symlink_to(tmp_path)

    def through(path):
        return seen / path.relative_to(tmp_path)

    boot = replace(config.boot, kernel=through(config.boot.kernel), initramfs=through(config.boot.initramfs))
    disks = tuple(replace(disk, path=through(disk.path)) for disk in config.disks)
    handle = await backend.start(replace(config, boot=boot, disks=disks))
    try:
        (entry,) = Ledger(tmp_path / "records").entries()
        assert set(entry.files) == {
            str(path) for path in (config.boot.kernel, config.boot.initramfs, config.disks[0].path)
        }
    finally:
        await handle.stop()
    assert backend.prepare_rootfs(disks[0].path, None) == config.disks[0].path


@pytest.fixture
def private(tmp_path):
    """A directory that a machine's own account may not enter."""
    (tmp_path / "private").mkdir(mode=0o700)
    return Share(tag="mine", path=tmp_path / "private")


async def test_a_directory_of_the_users_own_is_opened_with_the_users_rights(backend, config, private):
    handle = await backend.start(replace(config, shares=(private,)))
    try:
        await handle.add_share(replace(private, tag="later"))
        await handle.remove_share("mine")
        await handle.remove_share("later")
    finally:
        await handle.stop()


async def test_where_the_users_rights_are_refused_those_of_the_machine_have_to_do(backend, config, faults, private):
    private.path.chmod(0o755)
    faults(HcsModifyComputeSystem={"hresult": "0x80070057", "times": 1})
    handle = await backend.start(replace(config, shares=(private,)))
    try:
        await handle.remove_share("mine")
    finally:
        await handle.stop()


async def test_a_directory_that_is_refused_both_ways_ends_the_machine(backend, config, left, faults, private):
    faults(HcsModifyComputeSystem={"hresult": "0x80070057", "times": 1})
    with pytest.raises(BackendError, match=r"private cannot be shared.*E_INVALIDARG"):
        await backend.start(replace(config, shares=(private,)))
    assert left(config) == []


async def test_what_lies_in_the_cache_is_granted_to_all_machines_once(backend, config, left, faults, tmp_path):
    boot = tmp_path / "cache" / "kernels"
    boot.mkdir(parents=True)
    for name in ("kernel", "initramfs"):
        (boot / name).write_bytes(bytes(4096))
    mine = replace(config, boot=replace(config.boot, kernel=boot / "kernel", initramfs=boot / "initramfs"))
    await (await backend.start(mine)).stop()
    faults(HcsGrantVmGroupAccess={"hresult": "0x80070057", "immediate": True})
    await (await backend.start(mine)).stop()
    (boot / "kernel").unlink()
    (boot / "kernel").write_bytes(bytes(8192))
    with pytest.raises(BackendError, match=r"access to .*kernel"):
        await backend.start(mine)
    faults()
    await (await backend.start(mine)).stop()
    assert left(config) == []


async def test_a_failed_start_makes_what_was_granted_to_all_doubtful(backend, config, faults, tmp_path):
    boot = tmp_path / "cache" / "kernels"
    boot.mkdir(parents=True)
    for name in ("kernel", "initramfs"):
        (boot / name).write_bytes(bytes(4096))
    mine = replace(config, boot=replace(config.boot, kernel=boot / "kernel", initramfs=boot / "initramfs"))
    await (await backend.start(mine)).stop()
    faults(HcsStartComputeSystem={"hresult": "0x80070005", "times": 1})
    with pytest.raises(BackendError, match="access denied"):
        await backend.start(mine)
    faults(HcsGrantVmGroupAccess={"hresult": "0x80070057", "immediate": True})
    with pytest.raises(BackendError, match=r"access to .*kernel"):
        await backend.start(mine)


@pytest.mark.parametrize("which", ["kernel", "initramfs"])
async def test_a_missing_boot_file_is_named_before_anything_is_asked(backend, config, left, which):
    (config.boot.kernel.parent / which).rename(config.boot.kernel.parent / "away")
    with pytest.raises(BackendError, match=f"{which} cannot be read"):
        await backend.start(config)
    (config.boot.kernel.parent / "away").rename(config.boot.kernel.parent / which)
    assert left(config) == []


async def test_more_memory_than_the_host_has_is_refused_in_figures(backend, config):
    with pytest.raises(BackendError, match=r"1073741824 MiB.*the host has"):
        await backend.start(replace(config, memory=1 << 50))


async def test_a_pipe_that_cannot_be_made_is_told(backend, config, left, platform, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "somebody has that pipe")

    monkeypatch.setattr(platform, "console", refuse)
    with pytest.raises(BackendError, match="somebody has that pipe"):
        await backend.start(config)
    assert left(config) == []


async def test_a_socket_that_cannot_be_bound_is_told(backend, config, left, platform, monkeypatch):
    def refuse(*_):
        raise hresult.socket_error("the machine's connection cannot be listened for", OSError(10013, "denied"))

    monkeypatch.setattr(platform, "listen", refuse)
    with pytest.raises(BackendError, match="WSAEACCES"):
        await backend.start(config)
    assert left(config) == []


@pytest.mark.parametrize(
    "change",
    [
        {"disks": (Disk(path=Path("/x"), format=DiskFormat.RAW),)},
        {"boot": BootPlan(kernel=Path("/k"), initramfs=Path("/i"), cmdline="", architecture=Architecture.AARCH64)},
        {"shares": (Share(tag="x", path=Path("/")),) * 65},
        {"cpus": 10_000},
    ],
)
async def test_what_it_does_not_offer_is_unsupported(backend, config, change):
    with pytest.raises(Unsupported):
        await backend.start(replace(config, **change))


def test_it_is_available_where_the_service_answers(backend):
    found = backend.availability()
    assert found.usable
    assert found.accelerated
    assert "22631" in found.reason


@pytest.mark.parametrize(
    ("code", "words", "remedy"),
    [
        (0x80070005, "may not run virtual machines", "Hyper-V Administrators"),
        (0x8037011B, "may not run virtual machines", "Hyper-V Administrators"),
        (0x80070426, "stopped", "vmcompute"),
        (0x80070422, "disabled", "vmcompute"),
        (0x80070424, "no Host Compute Service", "VirtualMachinePlatform"),
        (0x80370102, "hypervisor does not run", "hypervisorlaunchtype"),
        (0x80370114, "not available", "VirtualMachinePlatform"),
    ],
)
def test_each_cause_of_unavailability_has_its_reason_and_remedy(backend, faults, code, words, remedy):
    faults(HcsGetServiceProperties={"hresult": hex(code), "immediate": True})
    found = backend.availability()
    assert not found.usable
    assert words in found.reason
    assert remedy in found.remedy


def test_an_old_windows_is_unavailable(standin, sockets):
    found = HypervBackend(LinuxPlatform(standin, sockets, build=17134)).availability()
    assert "17134 is too old" in found.reason
    assert "update Windows" in found.remedy


def test_a_missing_library_is_unavailable(tmp_path, sockets):
    found = HypervBackend(LinuxPlatform(tmp_path / "computecore.dll", sockets)).availability()
    assert "no Host Compute Service" in found.reason
    assert "dism" in found.remedy


def test_a_library_without_a_needed_export_is_unavailable(backend, monkeypatch):
    monkeypatch.setattr(_ffi.ComputeCore, "has", lambda _self, name: name != "HcsGrantVmAccess")
    assert "lacks HcsGrantVmAccess" in backend.availability().reason


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has it")
async def test_elsewhere_it_says_so(config):
    found = HypervBackend().availability()
    assert not found.usable
    assert "part of Windows" in found.reason
    assert "qemu" in found.remedy
    with pytest.raises(BackendUnavailable, match="part of Windows"):
        await HypervBackend().start(config)


def test_the_writable_disk_is_checked_before_anything_boots(backend, config, tmp_path):
    init = InitConfig(process=Process(argv=("true",)), hostname="host", layers=0)
    assert backend.prepare_rootfs(config.disks[0].path, init) == config.disks[0].path
    with pytest.raises(BackendError, match=r"disk of host.*missing"):
        backend.prepare_rootfs(tmp_path / "missing", init)
