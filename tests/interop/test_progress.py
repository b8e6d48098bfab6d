"""Bars as a person sees them: `propolis pull` in a tmux of the test's own, and what is left of them afterwards."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from propolis.testing.images import write_layout
from propolis.testing.registry import Fault, FaultKind, Registry

PROPOLIS = Path(sys.executable).with_name("propolis")


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """A registry with an image of three layers, the second of which stops half-way, and a cache of our own."""
    monkeypatch.setenv("PROPOLIS_CACHE", str(tmp_path / "cache"))
    layers = [{"first": b"1"}, {"data": os.urandom(4 << 20)}, {"last": b"3"}]
    write_layout(tmp_path / "image", layers, compression="none")
    with Registry() as registry:
        registry.push(tmp_path / "image", "app")
        big = max(registry.blobs, key=lambda digest: len(registry.blobs[digest]))
        registry.arm(Fault(kind=FaultKind.STALL, request=big, times=0, after=2 << 20))
        yield registry


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_a_pull_is_watched_resized_and_interrupted(slow, tmp_path):
    from terminals import Tmux

    with Tmux(rows=24, columns=80) as tmux:
        tmux.enter(
            f"export PROPOLIS_CACHE={tmp_path / 'cache'}; clear; echo before; {PROPOLIS} pull {slow.address}/app"
        )
        screen = tmux.expect("2 of 3 layers")
        assert re.search(r"^before\n(.*\n)*propolis: 2 of 3 layers  2.0 of 4.0 MiB", screen, re.MULTILINE)
        assert re.search(r"^[0-9a-f]{12} [━╸╺]+ 2.0 of 4.0 MiB", screen, re.MULTILINE)
        assert len(re.findall(r"^[0-9a-f]{12} done", screen, re.MULTILINE)) == 2
        tmux.resize(24, 100)
        tmux.expect(r"^[0-9a-f]{12} ━.* 2.0 of 4.0 MiB")
        tmux.press("C-c")
        screen = tmux.expect(r"^\$$")
        assert screen.rstrip() == "before\n\n$"
        tmux.enter("stty -a | grep -c ' echo '; echo end")
        tmux.expect("^1\nend$")
        assert tmux.run("display-message", "-p", "#{cursor_flag}") == "1\n"
        tmux.enter(f"rm -r {tmp_path}/cache; clear; {PROPOLIS} pull {slow.address}/app")
        tmux.expect("2 of 3 layers")
        tmux.resize(24, 30)  # tmux moves the beginning of what it wraps out of our reach
        tmux.expect(r"^[0-9a-f]{12} +2.0 of 4.0 MiB$")
        tmux.press("C-c")
        tmux.expect(r"^\$$")
        slow.faults.clear()
        tmux.enter(f"clear; {PROPOLIS} pull {slow.address}/app")
        screen = tmux.expect(r"^\$$")
        assert re.fullmatch(r"docker://.*@sha256:[0-9a-f]{64}\$", screen.replace("\n", ""))


def test_elsewhere_only_the_result_is_on_standard_output(slow):
    slow.faults.clear()
    command = [PROPOLIS, "pull", "--progress", "json", f"{slow.address}/app"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert re.fullmatch(rb"docker://[^\n]*@sha256:[0-9a-f]{64}\n", done.stdout)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    layers = [event for event in events if event.get("step") == "unpack layer"]
    assert [event["event"] for event in layers[:3]] == ["expect"] * 3
    assert sorted(event["event"] for event in layers if event["event"] != "advance") == sorted(
        3 * ["expect", "begin", "end"]
    )
    ended = {event["subject"]: event for event in layers if event["event"] == "end"}
    assert len(ended) == 3
    assert all(event["done"] == event["total"] for event in ended.values())
    again = subprocess.run(command, capture_output=True, check=True)
    told = [json.loads(line)["event"] for line in again.stderr.splitlines()]
    assert (told.count("skip"), told.count("advance")) == (3, 0)


def test_a_failure_is_the_last_event(slow):
    command = [PROPOLIS, "pull", "--progress", "json", f"{slow.address}/nosuch"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (125, b"")
    last = [json.loads(line) for line in done.stderr.splitlines()][-1]
    assert (last["event"], last["error"], last["exit_code"]) == ("error", "ImageNotFound", 125)
    assert "manifest unknown" in last["message"]


@pytest.mark.parametrize("arguments", [["-q"], ["--progress", "none"], ["-q", "--progress", "json"]])
def test_nothing_is_said_when_quiet(slow, arguments):
    slow.faults.clear()
    done = subprocess.run([PROPOLIS, "pull", *arguments, f"{slow.address}/app"], capture_output=True, check=True)
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("arguments", "words"), [(["--progress", "loud"], b"not known"), (["--progress", "bars"], b"no terminal")]
)
def test_what_cannot_be_shown_is_refused_before_any_work(slow, arguments, words):
    done = subprocess.run([PROPOLIS, "pull", *arguments, f"{slow.address}/app"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (125, b"")
    assert words in done.stderr
    assert slow.requests == []
