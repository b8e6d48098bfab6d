"""Derive `propolis/machine/blocking/` from `handle.py` and `agent/`: the same names and signatures, without `await`.

Usage: gen_blocking.py [--check]. Every public coroutine of AsyncMachine becomes a method that runs it in the portal;
properties are read there too. `arun` and `start` are hand-written in the template, as they begin and end the portal.
What is derived from nothing is no template: `portal.py` and `__init__.py` there are written by hand.
"""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "propolis" / "machine" / "handle.py"
AGENT = ROOT / "src" / "propolis" / "agent"
BY_HAND = ("start", "watch", "answered")
WRAPPED = ("Files", "Connection", "GuestProcess")
"""What a machine gives out that has a twin of its own."""
TARGET = ROOT / "src" / "propolis" / "machine" / "blocking"

FILES = '''"""Files without async: derived from `agent.files` by tools/gen_blocking.py; do not edit."""

import contextlib
from collections.abc import AsyncIterator, Iterator

from propolis.agent import files
from propolis.agent.files import FileEvent, FileStatus, GuestPath
from propolis.machine.blocking.portal import Twin


class Files(Twin[files.Files]):
{files_doc}

    @contextlib.contextmanager
    def watch{watch_signature}:
{watch_doc}
        with self._portal.wrap_async_context_manager(self._source.watch({watch_arguments})) as events:
            yield self._each(events)

    def _each(self, events: AsyncIterator[FileEvent]) -> Iterator[FileEvent]:
        while (event := self._call(lambda: anext(events, None))) is not None:
            yield event
{files_methods}'''

PROCESS = '''"""Processes without async: derived from `agent.process` by tools/gen_blocking.py; do not edit."""

from collections.abc import Iterator

from anyio.from_thread import BlockingPortal

from propolis.agent import process
from propolis.agent.process import ExitStatus
from propolis.agent.signals import Signal
from propolis.agent.wire import SignalScope
from propolis.machine.blocking.portal import Twin


class OutputStream(Twin[process.OutputStream]):
{output_doc}

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over what `receive` returns, up to the end."""
        while piece := self.receive():
            yield piece
{output_methods}

class InputStream(Twin[process.InputStream]):
{input_doc}
{input_methods}

class GuestProcess(Twin[process.GuestProcess]):
{process_doc}

    def __init__(self, source: process.GuestProcess, portal: BlockingPortal) -> None:
        """Not to be called: use `machine.open`."""
        super().__init__(source, portal)
        self.pid = source.pid
        self.stdin = InputStream(source.stdin, portal)
        self.stdout = OutputStream(source.stdout, portal)
        self.stderr = OutputStream(source.stderr, portal)
{process_methods}'''

CONNECTION = '''"""Connections without async: derived from `agent.connection` by tools/gen_blocking.py; do not edit."""

from typing import Self

from propolis.agent import connection
from propolis.machine.blocking.portal import Twin


class Connection(Twin[connection.Connection]):
{connection_doc}

    def __enter__(self) -> Self:
        """Use the connection; it is ended on leaving."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """End it."""
        self.aclose()
{connection_methods}'''

MACHINE = '''"""A machine without async: derived from `machine.handle` by tools/gen_blocking.py; do not edit."""

import atexit
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, Unpack

from anyio.from_thread import BlockingPortal

from propolis.agent.files import GuestPath
from propolis.agent.signals import Signal
from propolis.agent.statistics import Statistics
from propolis.agent.wire import SignalScope
from propolis.errors import MachineLost
from propolis.machine.blocking.connection import Connection
from propolis.machine.blocking.files import Files
from propolis.machine.blocking.portal import Opened, in_portal, portals
from propolis.machine.blocking.process import GuestProcess
from propolis.machine.handle import STOP_TIMEOUT, AsyncMachine, arun
from propolis.machine.options import ExecOptions, MachineOptions
from propolis.machine.result import Result
from propolis.progress import Reporter
from propolis.spec import Mount

_T = TypeVar("_T")


def run{run_signature}:
{run_doc}
    with portals as portal:
        return in_portal(portal, lambda: arun({run_arguments}))


class Machine:
{class_doc}

    def __init__(self, machine: AsyncMachine, portal: BlockingPortal, lease: contextlib.ExitStack) -> None:
        """Not to be called: use `start`."""
        self._machine = machine
        self._portal = portal
        self._lease = lease
        self._open = True
        atexit.register(self._close)

    @classmethod
    def start{start_signature}:
{start_doc}
        with contextlib.ExitStack() as lease:
            portal = lease.enter_context(portals)
            machine = lease.enter_context(Opened(portal, AsyncMachine.start({start_arguments})))
            return cls(machine, portal, lease.pop_all())
        raise AssertionError("unreachable")

    def __repr__(self) -> str:
        return f"<{{type(self).__name__}} {{self.name}} {{self.id}}>"

    def __enter__(self) -> Self:
        """Use the machine; it is stopped on leaving."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the machine."""
        self._close()

    def _close(self) -> None:
        self._open = False
        atexit.unregister(self._close)
        self._lease.close()

    def _call(self, call: Callable[[], Awaitable[_T]]) -> _T:
        if not self._open:
            raise MachineLost(f"the machine {{self.name}} has been stopped")
        return in_portal(self._portal, call)
{methods}'''

MODULES = {"files.py": FILES, "process.py": PROCESS, "connection.py": CONNECTION, "machine.py": MACHINE}


def main() -> int:
    """Write the modules, or compare them; returns the exit status."""
    stale = {path: text for path, text in generate().items() if not path.exists() or path.read_text("utf-8") != text}
    for path, text in stale.items():
        if "--check" in sys.argv[1:]:
            print(f"{path.relative_to(ROOT)} is stale: run python tools/gen_blocking.py")
        else:
            path.write_text(text, encoding="utf-8")
    return int("--check" in sys.argv[1:] and bool(stale))


def generate() -> dict[Path, str]:
    """Each module's text, from those of the asynchronous originals."""
    names = _names()
    return {TARGET / file: _formatted(template.format(**names), file) for file, template in MODULES.items()}


def _names() -> dict[str, str]:
    """What the templates leave open."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    arun = next(node for node in tree.body if isinstance(node, ast.AsyncFunctionDef) and node.name == "arun")
    machine = _class(SOURCE, "AsyncMachine")
    start = _member(machine, "start")
    parts = {
        name: _class(AGENT / file, kind)
        for name, file, kind in (
            ("files", "files.py", "Files"),
            ("output", "process.py", "OutputStream"),
            ("input", "process.py", "InputStream"),
            ("process", "process.py", "GuestProcess"),
            ("connection", "connection.py", "Connection"),
        )
    }
    watch = _member(parts["files"], "watch")
    return dict(
        run_signature=_signature(arun),
        run_doc=_doc(arun, 1),
        run_arguments=_arguments(arun),
        class_doc=_doc(machine, 1),
        start_signature=_signature(start, returns="Self"),
        start_doc=_doc(start, 2),
        start_arguments=_arguments(start),
        watch_signature=_signature(watch, returns="Iterator[Iterator[FileEvent]]"),
        watch_doc=_doc(watch, 2),
        watch_arguments=_arguments(watch),
        methods="".join(_method(node, "self._machine") for node in _public(machine)),
        **{f"{name}_doc": _doc(part, 1) for name, part in parts.items()},
        **{
            f"{name}_methods": "".join(
                _method(node, "self._source") for node in _public(part) if isinstance(node, ast.AsyncFunctionDef)
            )
            for name, part in parts.items()
        },
    )


def _class(path: Path, name: str) -> ast.ClassDef:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def _member(node: ast.ClassDef, name: str) -> ast.AsyncFunctionDef:
    return next(member for member in node.body if isinstance(member, ast.AsyncFunctionDef) and member.name == name)


def _public(node: ast.ClassDef) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    members = [member for member in node.body if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [member for member in members if not member.name.startswith("_") and member.name not in BY_HAND]


def _method(node: ast.FunctionDef | ast.AsyncFunctionDef, source: str) -> str:
    assert node.returns is not None
    call = f"{source}.{node.name}({_arguments(node)})"
    wrapped = ast.unparse(node.returns) if ast.unparse(node.returns) in WRAPPED else ""
    decorator = ""
    if node.name == "stop" and source == "self._machine":
        body = f"if self._open:\n            self._call(lambda: {call})\n            self._close()"
    elif wrapped and isinstance(node, ast.AsyncFunctionDef):
        body = f"return {wrapped}(self._call(lambda: {call}), self._portal)"
    elif isinstance(node, ast.AsyncFunctionDef) and not _arguments(node):
        body = f"return self._call({source}.{node.name})"
    elif wrapped:
        body = f"return {wrapped}({source}.{node.name}, self._portal)"
        decorator = "    @property\n"
    elif isinstance(node, ast.AsyncFunctionDef):
        body = f"return self._call(lambda: {call})"
    elif node.decorator_list:
        body = f"return self._machine.{node.name}"
        decorator = "    @property\n"
    else:
        body = f"return {call}"
    return f"\n{decorator}    def {node.name}{_signature(node)}:\n{_doc(node, 2)}\n        {body}\n"


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, returns: str | None = None) -> str:
    assert node.returns is not None
    arguments = ast.unparse(node.args)
    return f"({arguments}) -> {returns or ast.unparse(node.returns)}"


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    positional = [argument.arg for argument in node.args.args if argument.arg not in ("self", "cls")]
    named = [f"{argument.arg}={argument.arg}" for argument in node.args.kwonlyargs]
    rest = [f"**{node.args.kwarg.arg}"] if node.args.kwarg else []
    return ", ".join([*positional, *named, *rest])


def _doc(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, depth: int) -> str:
    indent = "    " * depth
    lines = (ast.get_docstring(node) or "").splitlines()
    text = "\n".join(f"{indent}{line}".rstrip() for line in lines[1:])
    body = f"\n{text}\n{indent}" if text else ""
    return f'{indent}"""{lines[0]}{body}"""'


def _formatted(text: str, file: str) -> str:
    ruff = Path(sys.executable).with_name("ruff")
    command = [ruff, "format", "--stdin-filename", TARGET / file, "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout


if __name__ == "__main__":
    sys.exit(main())
