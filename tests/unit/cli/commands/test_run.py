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
