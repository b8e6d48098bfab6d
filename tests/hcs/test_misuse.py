"""What corrupts memory under real HCS ends the process here, with a word on standard error."""

import subprocess
import sys
from pathlib import Path

import pytest

SETUP = """
import sys, threading, time
sys.path.insert(0, {tests!r})
from hcs.computecore import ComputeCore
core = ComputeCore({library!r})
system, result = core.create("machine", {document!r})
assert result.code == 0, result
"""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("core.close(system); core.start(system)", "is used after HcsCloseComputeSystem"),
        ("core.close(system); core.close(system)", "is used after HcsCloseComputeSystem"),
        ("o = core.operation(); core.close_operation(o); core.wait(o)", "is used after HcsCloseOperation"),
        ("core.start(1 << 40)", "is no compute system"),
        (
            "core.listen(system, lambda *_: core.close(system)); core.terminate(system); time.sleep(5)",
            "HcsCloseComputeSystem is called from a callback",
        ),
        (
            "threading.Timer(0.2, core.close, (system,)).start(); core.wait_for_exit(system)",
            "is closed while another thread is in a call on it",
        ),
    ],
)
def test_misuse(library, document, tmp_path, code, words):
    grant = f"core.grant('machine', {str(tmp_path / 'vmlinux')!r})\n"
    setup = SETUP.format(tests=str(Path(__file__).parents[1]), library=str(library), document=document)
    setup = setup.replace("system, result", grant + "system, result")
    finished = subprocess.run(
        [sys.executable, "-c", setup + code], capture_output=True, text=True, timeout=30, check=False
    )
    assert finished.returncode < 0, finished
    assert words in finished.stderr


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"Start": {}}', '{"HcsOpenComputeSystem": {"hresul": 1}}', '{"guest": "x"}']
)
def test_faults_that_are_not_understood(library, document, tmp_path, text):
    code = SETUP.format(tests=str(Path(__file__).parents[1]), library=str(library), document=document)
    code = code.replace("system, result", f"core.grant('machine', {str(tmp_path / 'vmlinux')!r})\nsystem, result")
    finished = subprocess.run(
        [sys.executable, "-c", code + "core.open('x'); core.start(system)"],
        capture_output=True,
        text=True,
        env={"PROPOLIS_HCS_FAULTS": text},
        timeout=30,
        check=False,
    )
    assert finished.returncode < 0
    assert "PROPOLIS_HCS_FAULTS" in finished.stderr
