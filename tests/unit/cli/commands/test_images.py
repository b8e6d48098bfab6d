"""The commands about images: what they print and what they exit with."""

import io
import json
import sys
from types import SimpleNamespace

import pytest

from propolis.cli.main import run
from propolis.cli.table import age_text, created_text, size_text
from propolis.images.reach import follow
from propolis.state.leases import Lease
from stores import store_below

A = "docker.io/library/a:1"


@pytest.fixture
def store(tmp_path, monkeypatch):
    return store_below(tmp_path, monkeypatch)


@pytest.fixture
def cli(capsys):
    def call(*arguments):
        status = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return SimpleNamespace(status=status, out=out, err=err)

    return call


def test_images_as_a_table_and_for_programs(cli, store):
    assert cli("images").out.split() == [
        "REPOSITORY",
        "TAG",
        "IMAGE",
        "ID",
        "PLATFORM",
        "CREATED",
        "LAST",
        "USED",
        "SIZE",
        "UNIQUE",
    ]
    digest = store.image(A, [{"f": b"1"}])
    store.image("example.org/b:2", [{"f": b"2"}], disks=False, blobs=False)
    first, second = cli("images").out.splitlines()[1:]
    assert first.split()[:4] == ["a", "1", digest[7:19], "linux/amd64"]
    assert second.split()[:2] == ["example.org/b", "2"] and "*" in second
    assert digest in cli("images", "--digests", "a").out
    assert cli("images", "-q", "a:1").out == f"{digest}\n"
    lost = store.image("", [{"f": b"3"}])
    assert cli("images").out.splitlines()[-1].split()[:3] == ["<none>", "<none>", lost[7:19]]
    assert cli("rmi", lost[7:19]).status == 0
    lines = [json.loads(line) for line in cli("images", "--format", "json").out.splitlines()]
    assert cli("images", "--json").out == cli("images", "--format", "json").out
    assert [(line["name"], line["is_complete"]) for line in lines] == [(A, True), ("example.org/b:2", False)]


def test_a_terminal_is_not_steered(cli, store):
    store.image(A, [{"f": b"1"}], config={"Labels": {"x": "\x1b[2J"}})
    path = next((store.cache / "blobs" / "tags").iterdir())
    path.write_text(json.dumps({"name": "docker.io/library/a\x1b[2J:1", "digest": "sha256:" + "0" * 64}))
    for command in ("images", "df", "inspect"):
        assert "\x1b" not in cli(command, *(["a:1"] if command == "inspect" else [])).out


def test_names_are_given_and_taken(cli, store):
    digest = store.image(A, [{"f": b"1"}])
    assert cli("tag", "a:1", "b").status == 0
    assert cli("rmi", "a:1").out == f"Untagged: {A}\n"
    found = cli("rmi", "none", "b")
    assert found.status == 125
    assert "no image 'none'" in found.err and "hint: see `propolis images`" in found.err
    lines = found.out.splitlines()
    assert lines[0] == "Untagged: docker.io/library/b:latest"
    assert f"Deleted: {digest}" in lines and len(lines) == 4
    assert store.files() == []


def test_what_a_machine_uses_is_told_with_its_name(cli, store):
    digest = store.image(A, [{"f": b"1"}])
    with Lease(store.cache, "busy") as lease:
        lease.add(follow(store.blobs, digest).names)
        found = cli("rmi", "a:1")
        assert found.status == 1
        assert "in use by busy" in found.err and "propolis stop busy" in found.err
        assert json.loads(cli("inspect", "a:1").out)[0]["Machines"] == ["busy"]
        assert cli("rmi", "-f", "a:1").out == f"Untagged: {A}\n"
    assert len(store.files()) > 0


def test_pruning_asks_where_somebody_is_there(cli, store, monkeypatch):
    store.image(A, [{"f": b"1"}])
    store.image("", [{"f": b"2"}])
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    found = cli("image", "prune")
    assert found.status == 125 and "add -f" in found.err
    found = cli("image", "prune", "--dry-run")
    assert found.out.count("Would delete: ") == 4 and "Total reclaimable space: " in found.out
    before = store.files()
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    for answer in ("n\n", "\n", ""):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
        monkeypatch.setattr("click.termui.visible_prompt_func", lambda _text, answer=answer: answer.strip() or "n")
        found = cli("image", "prune", "-a")
        assert found.status == 1 and "WARNING! This will remove all images" in found.err and "Nothing" in found.err
        assert store.files() == before
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _text: "y")
    assert cli("image", "prune").out.count("Deleted: ") == 4
    found = json.loads(cli("image", "prune", "-af", "--format", "json").out)
    assert found["untagged"] == [A] and len(found["removed"]) == 4 and found["size"] > 0
    assert store.files() == []


def test_df(cli, store):
    store.image(A, [{"f": b"1"}])
    found = [json.loads(line) for line in cli("df", "--format", "json").out.splitlines()]
    assert [item["kind"] for item in found][:3] == ["images", "layer disks", "blobs"]
    lines = cli("df").out.splitlines()
    assert lines[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert "(100%)" in lines[2]


def test_archives_go_out_and_come_in(cli, store, tmp_path, monkeypatch):
    digest = store.image(A, [{"f": b"1"}])
    path = tmp_path / "a.tar"
    assert cli("save", "-o", path, "a:1").status == 0
    assert cli("rmi", digest).status == 0
    assert cli("load", "-q", "-i", path).out == f"Loaded image: {A}\n"
    assert cli("load", "-i", tmp_path / "none").status == 125
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(path.read_bytes())))
    assert cli("load").out == f"Loaded image: {A}\n"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    assert "standard input is a terminal" in cli("load").err
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True))
    assert "not for a terminal" in cli("save", "a:1").err


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (1036051, "1.04MB"), (999_600, "1MB"), (5 << 40, "5.5TB")],
)
def test_sizes(size, text):
    assert size_text(size) == text


def test_times():
    import time

    now = time.time()
    assert age_text(now) == "just now"
    assert age_text(now - 150) == "2 minutes ago"
    assert age_text(now - 3 * 86400) == "3 days ago"
    assert age_text(now + 1e6) == "in the future"
    assert created_text("") == ""
    assert created_text("1970-01-01T00:00:00Z").endswith("years ago")
    assert created_text("0001-01-01T00:00:00Z").endswith("years ago") or created_text("0001-01-01T00:00:00Z")
    assert created_text("\x1bnonsense") == "\x1bnonsense"
