import os
import subprocess
import sys
import uuid

import pytest

from propolis.hypervisor.hyperv.ledger import Ledger

IDENTITY = uuid.uuid5(uuid.NAMESPACE_URL, "machine")


def test_what_is_written_down_is_found_until_it_is_struck_out(tmp_path):
    ledger = Ledger(tmp_path / "new")
    assert ledger.entries() == []
    ledger.write(IDENTITY, (r"C:\a", r"C:\ü"))
    (entry,) = Ledger(tmp_path / "new").entries()
    assert (entry.identity, entry.pid, entry.files) == (str(IDENTITY), os.getpid(), (r"C:\a", r"C:\ü"))
    assert not entry.is_orphan
    for _ in range(2):
        ledger.strike(str(IDENTITY))
    assert list((tmp_path / "new").iterdir()) == []


def test_the_entry_of_a_killed_process_is_an_orphan(tmp_path):
    program = (
        "import os, sys, uuid, pathlib\n"
        "from propolis.hypervisor.hyperv.ledger import Ledger\n"
        f"Ledger(pathlib.Path(sys.argv[1])).write(uuid.UUID('{IDENTITY}'), ('x',))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, tmp_path], check=False).returncode in (-9, 9)
    (entry,) = Ledger(tmp_path).entries()
    assert entry.is_orphan


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"{}", b"\xff", b'{"identity": 1, "pid": 1, "start": "", "files": []}'),
        b'{"identity": "%s", "pid": "1", "start": "", "files": []}' % str(IDENTITY).encode(),
        b'{"identity": "%s", "pid": 1, "start": "", "files": [7]}' % str(IDENTITY).encode(),
    ],
)
def test_a_damaged_entry_is_passed_over(tmp_path, content):
    (tmp_path / f"{IDENTITY}.json").write_bytes(content)
    assert Ledger(tmp_path).entries() == []


def test_an_entry_under_another_name_is_no_entry(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.write(IDENTITY, ())
    (tmp_path / f"{IDENTITY}.json").rename(tmp_path / f"{uuid.uuid4()}.json")
    assert ledger.entries() == []


def test_half_written_entries_of_the_dead_are_removed(tmp_path):
    (tmp_path / ".staged-x.json-0123456789ab").write_bytes(b"{")
    Ledger(tmp_path).tidy()
    assert list(tmp_path.iterdir()) == []
