import sys

import anyio
import pytest

from propolis.hypervisor.qemu.process import VMMProcess


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_output_is_kept_and_the_end_awaited_by_any_number(tmp_path, backend):
    async def main():
        program = "import sys; print('console'); print('complaint', file=sys.stderr); raise SystemExit(3)"
        process = VMMProcess([sys.executable, "-c", program], (), tmp_path / "pid")
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(process.wait)
        assert (process.returncode, process.console.text(), process.messages.text()) == (3, "console\n", "complaint\n")
        assert process.pids == ()
        process.kill()

    anyio.run(main, backend=backend)


def test_it_is_killed_with_what_it_has_started(tmp_path):
    async def main():
        process = VMMProcess(
            ["/bin/sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 1000 & sleep 1000"], (), tmp_path / "pid"
        )
        with anyio.fail_after(20):
            while not process.pids:  # noqa: ASYNC110 - QEMU writes it
                await anyio.sleep(0.01)
            process.kill()
            await process.wait()  # returns only when all who hold its output are gone
        assert process.returncode
        assert process.pids == ()
        assert not (tmp_path / "pid").exists()

    anyio.run(main)
