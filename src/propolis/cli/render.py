"""What every command says in the same way on standard error: notices, and how things failed."""

import sys
from collections.abc import Callable

Presenter = Callable[[str, str, str, int], None]
"""Shows a message, a hint, the name of the error's class and the exit code."""
_presenter: Presenter | None = None


def present_errors(presenter: Presenter | None) -> None:
    """From now on errors are shown by `presenter`; by `show_error` itself if it is None."""
    global _presenter  # noqa: PLW0603 - there is one standard error
    _presenter = presenter


def show_error(message: str, hint: str, *, kind: str = "", exit_code: int = 1, usage: str = "") -> None:
    """One line that says what failed, one that says what to do; before them how the command is used, if given."""
    if _presenter is not None:
        _presenter(message, hint, kind, exit_code)
        return
    if usage:
        print(usage, file=sys.stderr)
    say(message)
    if hint:
        print(f"  hint: {one_line(hint)}", file=sys.stderr)


def say(text: str, *, indented: bool = False) -> None:
    """One line; with `indented`, spaces at its beginning are kept."""
    print(f"propolis: {printable(text) if indented else one_line(text)}", file=sys.stderr)


def printable(text: str) -> str:
    """Text from images, disks and guests may hold anything; a terminal must not be steered by it."""
    return "".join(character if character.isprintable() else "?" for character in text)


def one_line(text: str) -> str:
    """The same, whatever ends lines in it."""
    return printable(" ".join(text.split()))
