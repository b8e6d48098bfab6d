"""Machines without async: each call runs its coroutine in an event loop in a thread, shared by all machines here.

`files`, `process`, `connection` and `machine` are derived from the asynchronous originals by tools/gen_blocking.py.
"""

from propolis.machine.blocking.connection import Connection as Connection
from propolis.machine.blocking.files import Files as Files
from propolis.machine.blocking.machine import Machine as Machine
from propolis.machine.blocking.machine import run as run
from propolis.machine.blocking.process import GuestProcess as GuestProcess
from propolis.machine.blocking.process import InputStream as InputStream
from propolis.machine.blocking.process import OutputStream as OutputStream
