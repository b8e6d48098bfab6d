"""A store that many processes use at once, and that dies at any instant: what is in use stays, what was said is so."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from propolis.images.catalog import inspect, list_images
from propolis.images.collection import prune
from propolis.images.loading import load
from propolis.images.saving import save
from propolis.testing.images import write_layout
from propolis.testing.registry import Registry
from stores import Store, store_below

HERE = Path(__file__).resolve().parent
BASE = {"base": os.urandom(300_000)}
ROUNDS = 10 if sys.platform != "win32" else 3
"""Processes take seconds to begin under Wine."""
COMMAND = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import store_worker
store_worker.prepare()
from propolis.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture
def store(tmp_path, monkeypatch):
    return store_below(tmp_path, monkeypatch)


@pytest.fixture
def names(tmp_path):
    """Two images in a registry that share a layer."""
    with Registry() as origin:
        for name in ("a", "b"):
            write_layout(tmp_path / name, [BASE, {name: name.encode() * 1000}], config={"Cmd": ["/init"]})
            origin.push(tmp_path / name, name)
        yield [f"{origin.address}/{name}" for name in ("a", "b")]


def begun(*arguments):
    return subprocess.Popen([sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def status(*arguments):
    with begun(*arguments) as process:
        process.communicate(timeout=60)
        return process.returncode


def test_no_start_fails_because_something_was_deleted_under_it(store, names):
    roles = ["start", "start", "start", "prune", "rmi", "pull"]
    workers = [begun(HERE / "store_worker.py", role, 5, *names) for role in roles]
    found = []
    for worker in workers:
        out, err = worker.communicate(timeout=120)
        assert worker.returncode == 0, err.decode()
        found.append(json.loads(out))
    assert [fault for worker in found for fault in worker["faults"]] == []
    counts = {role: sum(worker["count"] for worker in found if worker["role"] == role) for role in roles}
    assert min(counts.values()) > 0, counts
    prune(all=True)
    assert store.files() == []


def soundness(name):
    """The image is all here, and each of its layers is what it should be."""
    (image,) = inspect(name)
    store = Store(Path(os.environ["PROPOLIS_CACHE"]))
    return image["Complete"] and all(store.blobs.check(layer["Digest"]) for layer in image["Layers"])


@pytest.mark.parametrize("verb", ["pull", "load", "save", "tag", "rmi", "prune"])
def test_whatever_is_killed_leaves_what_was_there_and_is_done_the_next_time(store, names, tmp_path, verb):
    write_layout(tmp_path / "kept", [BASE, {"kept": b"k" * 100_000}], tag="example.org/kept:1")
    load(tmp_path / "kept")
    archive, saved = tmp_path / "kept.tar", tmp_path / "saved.tar"
    save("example.org/kept:1", archive)
    write_layout(tmp_path / "new", [BASE, {"new": os.urandom(200_000)}], tag="example.org/new:1")
    arguments = {
        "pull": ["pull", "-q", names[0]],
        "load": ["load", "-q", "-i", tmp_path / "new"],
        "save": ["save", "-q", "-o", saved, "example.org/kept:1"],
        "tag": ["tag", "example.org/kept:1", "example.org/other:1"],
        "rmi": ["rmi", "example.org/new:1"],
        "prune": ["image", "prune", "-f"],
    }[verb]

    def prepare():
        saved.unlink(missing_ok=True)
        if verb in ("rmi", "prune"):
            load(tmp_path / "new")
        if verb == "prune":
            store.tags.remove("example.org/new:1")

    prepare()
    began = time.monotonic()
    assert status("-c", COMMAND, *arguments) == 0
    usual = time.monotonic() - began
    for _ in range(ROUNDS):
        prepare()
        process = begun("-c", COMMAND, *arguments)
        time.sleep(usual * (0.4 + 0.7 * random.random()))  # before that it is still importing
        process.kill()
        process.communicate()
        assert soundness("example.org/kept:1")
        assert not saved.exists() or saved.read_bytes() == archive.read_bytes()
        if verb in ("load", "pull"):
            done = [image.name for image in list_images() if image.name.startswith(("example.org/new", names[0]))]
            assert verb == "pull" or not done or soundness(done[0])
    is_there = verb != "rmi" or any(image.name == "example.org/new:1" for image in list_images())
    assert status("-c", COMMAND, *arguments) == (0 if is_there else 125)
    if verb == "save":
        assert saved.read_bytes() == archive.read_bytes()
        assert not list(tmp_path.glob(".staged-*"))
    if verb == "tag":
        assert soundness("example.org/other:1")
    prune()
    kept = {"example.org/kept:1", *(image.name for image in list_images())}
    assert all(soundness(name) for name in kept)
    prune(all=True)
    assert store.files() == []
