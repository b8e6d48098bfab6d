"""The command line's entry: a table of verbs, imported when called, and the way errors and exit codes leave.

Exit codes are docker's: the workload's own; 125 when propolis failed, 126 and 127 when the command could not be
executed or found; 124 when a time limit ran out; 130 after Ctrl-C.
"""

import contextlib
import gc
import importlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

import click

from propolis.cli import streams, terminal
from propolis.cli.render import present_errors, show_error
from propolis.errors import PropolisError

COMMANDS = {
    "attach": "back to a machine that was left running",
    "df": "what propolis takes from this host",
    "disk": "make disk files of images, tars and directories; look into them",
    "doctor": "what works on this host, why not, and what to do",
    "exec": "run one more process in a machine",
    "image": "remove images that are of no use (prune)",
    "images": "list the images of this host",
    "inspect": "all that is known of images",
    "load": "take images from an archive",
    "logs": "what a machine's workload has printed",
    "ps": "list the machines that run",
    "pull": "fetch an image, so that it runs without the network",
    "rmi": "take names from images, and remove those without one",
    "run": "run an image as a microVM",
    "save": "write images into an archive",
    "stop": "end machines",
    "tag": "give an image another name",
}
EXIT_USAGE = 125
EXIT_INTERRUPTED = 130
_PATIENCE = 2.0
"""Seconds for threads that were left behind to clean up."""


class _Verbs(click.Group):
    """Verbs from the table; a verb's module is imported only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"propolis.cli.commands.{cmd_name}")
        if not gc.isenabled():  # as `main` left it
            gc.freeze()
            gc.enable()
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"propolis {version('propolis')}")
        ctx.exit()


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Show the version."
)
def cli() -> None:
    """Run any OCI container image as a microVM."""


def main() -> None:
    """The `propolis` command."""
    gc.disable()  # what is imported stays: looking for garbage in it takes a tenth of the time
    prepare()
    leave(run(sys.argv[1:]))


def prepare() -> None:
    """Make this process' standard streams fit to be used."""
    streams.ensure_open()
    terminal.prepare()


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit code and lets no traceback out."""
    present_errors(None)
    return outcome(lambda: cli.main(arguments, prog_name="propolis", standalone_mode=False))


def outcome(call: Callable[[], object]) -> int:
    """The exit code that `call` returns, or that of the error it raises, which is shown."""
    try:
        status = call()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return EXIT_USAGE
    except click.ClickException as error:
        usage, hint = "", ""
        if isinstance(error, click.UsageError):
            usage = error.ctx.get_usage() if error.ctx is not None else ""
            hint = f"see `{error.ctx.command_path if error.ctx is not None else 'propolis'} --help`"
        show_error(error.format_message(), hint, kind="InvalidArgument", exit_code=EXIT_USAGE, usage=usage)
        return EXIT_USAGE
    except PropolisError as error:
        show_error(str(error), error.hint, kind=type(error).__name__, exit_code=error.exit_code)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # whoever read our output is gone; keep the interpreter from complaining about it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_USAGE
    except Exception as error:  # noqa: BLE001 - the last resort: a bug of ours must not look like one of the user's
        if os.environ.get("PROPOLIS_TRACEBACK"):
            traceback.print_exc()
        show_error(
            f"internal error: {type(error).__name__}: {error}",
            "this is a fault of propolis; run again with PROPOLIS_TRACEBACK=1 and report what it prints",
            kind=type(error).__name__,
            exit_code=EXIT_USAGE,
        )
        return EXIT_USAGE
    return status if isinstance(status, int) else 0


def leave(status: int) -> NoReturn:
    """Exit, with a little patience for threads of a launch that was given up: a download, or the wait for a lock."""
    until = time.monotonic() + _PATIENCE
    left = [
        thread for thread in threading.enumerate() if thread is not threading.current_thread() and not thread.daemon
    ]
    for thread in left:
        thread.join(max(0.0, until - time.monotonic()))
    if not any(thread.is_alive() for thread in left):
        sys.exit(status)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)  # the interpreter would wait for them to end
