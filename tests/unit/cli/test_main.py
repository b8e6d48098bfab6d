import click
import pytest

from propolis.cli import main
from propolis.errors import (
    CommandNotExecutable,
    CommandNotFound,
    DeadlineExceeded,
    ImageNotFound,
    InvalidArgument,
    PropolisError,
)


@pytest.fixture
def raising(monkeypatch):
    """The exit code of a command line whose verb raises `error`."""

    def run(error):
        @click.command()
        def command():
            raise error

        monkeypatch.setattr(main._Verbs, "get_command", lambda *_: command)
        return main.run(["verb"])

    return run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PropolisError("x"), 125),
        (InvalidArgument("x"), 125),
        (ImageNotFound("x"), 125),
        (CommandNotFound("x"), 127),
        (CommandNotExecutable("x"), 126),
        (DeadlineExceeded("x"), 124),
        (KeyboardInterrupt(), 130),
        (RuntimeError("x"), 125),
        (click.UsageError("x"), 125),
    ],
)
def test_each_error_has_its_exit_code(raising, capsys, error, code):
    assert raising(error) == code
    assert "Traceback" not in capsys.readouterr().err


def test_an_error_is_one_line_and_its_hint_another_without_control_characters(raising, capsys):
    raising(PropolisError("a\n\x1b[31mb\x07", hint="c\r\x9bd"))
    assert capsys.readouterr().err == "propolis: a ?[31mb?\n  hint: c ?d\n"


def test_a_fault_of_ours_is_told_as_such_and_traced_on_request(raising, capsys, monkeypatch):
    raising(ZeroDivisionError("by zero"))
    assert "internal error: ZeroDivisionError: by zero" in capsys.readouterr().err
    monkeypatch.setenv("PROPOLIS_TRACEBACK", "1")
    raising(ZeroDivisionError("by zero"))
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["nosuch"], ["run"], ["run", "--nosuch", "x"], ["--nosuch"]])
def test_what_cannot_be_understood_is_a_usage_error(capsys, arguments):
    assert main.run(arguments) == 125
    said = capsys.readouterr()
    assert said.out == ""
    command = "propolis run" if arguments[0] == "run" else "propolis"
    assert said.err.splitlines()[-1] == f"  hint: see `{command} --help`"


def test_without_arguments_the_help_is_shown_as_it_is(capsys):
    assert main.run([]) == 125
    assert capsys.readouterr().err.startswith("Usage: propolis [OPTIONS] COMMAND")


def test_help_and_version_succeed(capsys):
    assert (main.run(["--help"]), main.run(["--version"])) == (0, 0)
    assert "propolis 0." in capsys.readouterr().out
