import math

import pytest

from propolis.cli import main
from propolis.cli.commands import run
from propolis.errors import InvalidArgument


@pytest.mark.parametrize(
    ("given", "variables"),
    [
        ([], {}),
        (["A=b"], {"A": "b"}),
        (["A=b=c"], {"A": "b=c"}),
        (["A="], {"A": ""}),
        (["OURS"], {"OURS": "here"}),
        (["NOT_OURS"], {}),
        (["A=1", "A=2"], {"A": "2"}),
        (["=x"], {"": "x"}),
    ],
)
def test_variables_are_given_or_ours(monkeypatch, given, variables):
    monkeypatch.setenv("OURS", "here")
    monkeypatch.delenv("NOT_OURS", raising=False)
    assert run.environment(given) == variables


def test_variables_of_files_come_before_those_that_are_given(tmp_path, monkeypatch):
    monkeypatch.setenv("OURS", "here")
    (tmp_path / "one").write_bytes('\ufeff# comment\n\n  A=1 \r\nB="x y"#z\nOURS\nNOT_OURS_1\n'.encode())
    (tmp_path / "two").write_text("A=2\nC=ü=\n", encoding="utf-8")
    found = run.environment(["C=3"], [str(tmp_path / "one"), str(tmp_path / "two")])
    assert found == {"A": "2", "B": '"x y"#z', "OURS": "here", "C": "3"}
    assert run.environment([], [str(tmp_path / "one")])["A"] == "1 "


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"A=1\nB C=2", "line 2: 'B C'"), (b"=x", "line 1: ''"), (b"\xff", "UTF-8"), (b"#" * (2 << 20), "too large")],
)
def test_a_file_of_variables_that_is_none(tmp_path, data, words):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(InvalidArgument, match=words):
        run.environment([], [str(tmp_path / "file")])
    with pytest.raises(InvalidArgument, match="cannot read"):
        run.environment([], [str(tmp_path / "missing")])


def test_the_only_network_is_none(capsys):
    assert main.run(["run", "--network", "host", "oci:x", "true"]) == 125
    assert "no network 'host'" in capsys.readouterr().err
    assert main.run(["run", "--network", "none", "--init", "oci:/no/such", "true"]) == 125
    assert "network" not in capsys.readouterr().err


@pytest.mark.parametrize("seconds", [math.nan, math.inf, 0, -1])
def test_a_time_limit_is_a_time(seconds):
    with pytest.raises(InvalidArgument, match="--timeout"):
        run._timeout(seconds)


def test_no_time_limit_is_none():
    assert (run._timeout(None), run._timeout(0.5)) == (None, 0.5)


@pytest.mark.parametrize("option", ["-i", "-t", "-it"])
@pytest.mark.parametrize("image", [["-"], ["docker-archive:-"], ["oci-archive:-:v1"], ["--rootfs", "-"]])
def test_standard_input_is_not_read_twice(option, image, capsys):
    assert main.run(["run", option, *image, "sh"]) == 125
    assert "cannot be both the image's and the workload's" in capsys.readouterr().err
