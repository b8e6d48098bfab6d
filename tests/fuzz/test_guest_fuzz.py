"""The guest's readers of what comes from outside, under libFuzzer with ASan and UBSan; some seconds each.

`make fuzz` gives each ten minutes. The corpus is in `guest/corpus`; what libFuzzer finds anew stays in a temporary
directory, and a finding belongs into the corpus with its fix.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent / "guest"
GUEST = HERE.parents[2] / "guest"
SECONDS = int(os.environ.get("FUZZ_SECONDS", "5"))
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Werror")
SANITIZERS = "-fsanitize=fuzzer,address,undefined"
SOURCES = {
    "spec": ("spec.c", "json.c"),
    "frames": ("frame.c",),
    "archive": ("copy.c",),
}

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("clang") is None, reason="clang with libFuzzer is not installed"
)


@pytest.mark.parametrize("target", SOURCES)
def test_no_input_harms(target, tmp_path):
    program, found = tmp_path / target, tmp_path / "found"
    found.mkdir()
    sources = [HERE / f"{target}.c", *(GUEST / name for name in SOURCES[target])]
    subprocess.run(
        ["clang", *FLAGS, SANITIZERS, "-fno-sanitize-recover=all", f"-I{GUEST}", "-o", program, *sources], check=True
    )
    limits = [
        f"-max_total_time={SECONDS}",
        "-max_len=32768",
        "-timeout=5",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
    ]
    done = subprocess.run(
        [program, *limits, f"-artifact_prefix={found}/", found, HERE / "corpus" / target],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS + 120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    assert int(runs[1]) > 1000
