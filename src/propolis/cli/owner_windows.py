"""The owner's process on Windows: another interpreter, which is told by a pipe what is wanted.

It gets three handles and no more: its end of the connection (a named pipe that nobody else can open), the pipe with
what is wanted, whose end tells that the front end has given the console back, and standard error. It shares the front
end's console, which alone lets it print there, until it is let go; keys that interrupt are not for it. The virtual
environment's python.exe would stay with it and hold the console: that is passed over, as multiprocessing does.
"""

import sys

assert sys.platform == "win32"

import _winapi
import msvcrt
import os
import pickle
import subprocess
import threading
import time
from contextlib import suppress
from typing import BinaryIO, NoReturn

from propolis.channel import ByteChannel
from propolis.cli import streams
from propolis.cli.main import leave, outcome, prepare
from propolis.cli.owning import PARTING, Wanted, own, to_nowhere
from propolis.errors import MachineLost, PropolisError
from propolis.host.win32 import _ffi
from propolis.host.windows_channel import PipeChannel, pair
from propolis.image.reference import reads_standard_input

_PROGRAM = "from propolis.cli.owner_windows import serve; serve()"
_BY_ITSELF = 0x100
"""Added to the exit code of an owner that was not terminated, which can be done with any code."""
_CLOSING = 30.0
"""Seconds to end the machine in when the console is closed; Windows gives 5 or so."""
_LAUNCHER = "__PYVENV_LAUNCHER__"
"""The variable that tells the interpreter which virtual environment it is of."""


class OwnerProcess:
    """The owner, as the front end has it."""

    def __init__(self, process: "subprocess.Popen[bytes]", channel: PipeChannel, handover: BinaryIO) -> None:
        self._process, self._channel, self._handover = process, channel, handover

    @property
    def channel(self) -> ByteChannel:
        """The connection with it."""
        return self._channel

    def close(self) -> None:
        """End the connection: the console was given back. Idempotent."""
        self._channel.close()
        with suppress(OSError):
            self._handover.close()

    def wait(self) -> None:
        """Wait for its end."""
        self._process.wait()

    def exit_code(self) -> int:
        """What it has ended with.

        Raises:
            MachineLost: it was killed.
        """
        code = self._process.wait()
        if not _BY_ITSELF <= code < 2 * _BY_ITSELF:
            raise MachineLost("the process that owned the machine was terminated; the machine went with it")
        return code - _BY_ITSELF


def start(wanted: Wanted) -> OwnerProcess:
    """Start the owner of what is wanted.

    Raises:
        PropolisError: Windows refuses.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        channel, theirs = pair()
        reading, writing = os.pipe()
    except OSError as error:
        raise PropolisError(f"no pipe can be made: {error.strerror}") from error
    handover = open(writing, "wb")  # noqa: SIM115, PTH123 - for as long as we are the front end
    try:
        process = _started(theirs, msvcrt.get_osfhandle(reading), image=reads_standard_input(wanted.spec.image))
    except OSError as error:
        channel.close()
        handover.close()
        raise PropolisError(
            f"no process can be started for the machine: {error.strerror}",
            hint="see what forbids programs to start others here; without -d, and without -i or -t, none is needed",
        ) from error
    finally:
        _winapi.CloseHandle(theirs)
        os.close(reading)
    with suppress(OSError):  # it has ended already, which the connection tells
        pickle.dump(wanted, handover)
        handover.flush()
    return OwnerProcess(process, channel, handover)


def _started(connection: int, handover: int, *, image: bool) -> "subprocess.Popen[bytes]":
    """The process, with these two handles; with `image` it reads our standard input."""
    for handle in (connection, handover):
        os.set_handle_inheritable(handle, True)
    executable: str = getattr(sys, "_base_executable", sys.executable)
    environment = dict(os.environ)
    if executable != sys.executable:
        environment[_LAUNCHER] = sys.executable
    how = subprocess.CREATE_NEW_PROCESS_GROUP
    if not _ffi.console_output_code_page():  # we have no console, and it would open one
        how |= subprocess.DETACHED_PROCESS
    # never what lies in the working directory
    flag = "-I" if sys.flags.isolated else "-P"

    def started(how: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [executable, flag, "-c", _PROGRAM, str(connection), str(handover)],
            env=environment,
            stdin=streams.STDIN if image else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=streams.STDERR,
            creationflags=how,
            startupinfo=subprocess.STARTUPINFO(lpAttributeList={"handle_list": [connection, handover]}),
        )

    try:
        return started(how | subprocess.CREATE_BREAKAWAY_FROM_JOB)
    except PermissionError:  # the job that we are in keeps what it has
        return started(how)


def serve() -> NoReturn:
    """Be the owner that a front end has started: what the other process runs."""
    _ffi.set_console_control_handler(_heed_not)
    connection, handover = map(int, sys.argv[1:])
    for handle in (connection, handover):
        os.set_handle_inheritable(handle, False)
    prepare()
    told = open(msvcrt.open_osfhandle(handover, os.O_RDONLY | os.O_BINARY), "rb")  # noqa: SIM115, PTH123 - as long as we live
    try:
        wanted = pickle.load(told)  # noqa: S301 - of the process that started us
    except (EOFError, pickle.UnpicklingError):  # it was killed just now
        sys.exit(1)
    leave(_BY_ITSELF + outcome(lambda: own(wanted, _FrontEnd(PipeChannel(connection), told))))


def _heed_not(event: int) -> bool:
    """Keys are the front end's. A console that is closed ends it, and us when this returns, or some time later."""
    if event not in (_ffi.CTRL_C_EVENT, _ffi.CTRL_BREAK_EVENT):
        time.sleep(_CLOSING)
    return True


class _FrontEnd:
    """See `owning.FrontEnd`."""

    def __init__(self, channel: PipeChannel, told: BinaryIO) -> None:
        self.channel, self._told = channel, told

    def let_go(self) -> None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - a console's takes no other file
        to_nowhere(streams.STDIN, streams.STDERR)
        with suppress(OSError):  # there is none
            _ffi.free_console()

    def part(self) -> None:
        self.channel.close()
        waiting = threading.Thread(target=self._told.read, daemon=True)
        waiting.start()
        waiting.join(PARTING)
