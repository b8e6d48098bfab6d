import os
import sys

import pytest

from propolis.preflight import checks
from propolis.preflight.checks import Verdict, directory_check, resources_check


def test_a_directory_that_need_not_exist_is_fine(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "_LEAST_FREE", 0)
    check = directory_check("cache", tmp_path / "a" / "b", "PROPOLIS_CACHE")
    assert (check.verdict, str(tmp_path / "a" / "b") in check.found) == (Verdict.OK, True)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("below", ["", "cache"])
def test_a_file_in_its_place_is_a_failure(tmp_path, below):
    (tmp_path / "file").write_text("x")
    check = directory_check("cache", tmp_path / "file" / below, "PROPOLIS_CACHE")
    assert check.verdict is Verdict.FAILURE
    assert check.found == f"{tmp_path / 'file'} is not a directory"
    assert "PROPOLIS_CACHE" in check.remedy


@pytest.mark.skipif(sys.platform == "win32", reason="making links takes a privilege there")
def test_a_link_to_nowhere_is_a_failure(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert directory_check("data", tmp_path / "link", "PROPOLIS_DATA").verdict is Verdict.FAILURE


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root and Windows may write anywhere")
def test_a_directory_of_somebody_else_is_a_failure(tmp_path):
    tmp_path.chmod(0o500)
    assert directory_check("data", tmp_path / "x", "PROPOLIS_DATA").verdict is Verdict.FAILURE


def test_little_room_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "_LEAST_FREE", 1 << 80)
    assert directory_check("cache", tmp_path, "PROPOLIS_CACHE").verdict is Verdict.WARNING


def test_little_memory_is_a_warning(monkeypatch):
    monkeypatch.setattr(checks, "_LEAST_MEMORY", 0)
    assert resources_check().verdict is Verdict.OK
    monkeypatch.setattr(checks, "_LEAST_MEMORY", 1 << 80)
    assert resources_check().verdict is Verdict.WARNING
