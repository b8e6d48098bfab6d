"""A connection to a socket in the guest, carried by the agent: no network of the host's has a part in it."""

from propolis.agent.builtins import Builtins
from propolis.agent.process import GuestProcess
from propolis.errors import InvalidArgument, MachineError


class Connection:
    """A byte stream to a TCP port or unix socket in the guest. One task may send while another receives."""

    def __init__(self, process: GuestProcess) -> None:
        """Not to be called: use `machine.dial`."""
        self._process = process

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return the next bytes, at least one; `b""` once the other side has ended.

        Raises:
            MachineLost: the machine went away.
        """
        return await self._process.stdout.receive(max_bytes)

    async def send(self, data: bytes) -> None:
        """Send all of `data`; returns when it is on its way.

        Raises:
            BrokenPipeError: the other side has ended.
            MachineLost: the machine went away.
        """
        await self._process.stdin.send(data)

    async def send_eof(self) -> None:
        """Tell the other side that nothing more will come; what it says can still be received."""
        await self._process.stdin.aclose()

    async def aclose(self) -> None:
        """End the connection. Idempotent."""
        self._process.abandon()
        await self._process.stdout.aclose()


async def dial(builtins: Builtins, address: str | int) -> Connection:
    """Connect to `address` in the guest: a port of its loopback, `HOST:PORT`, or the path of a unix socket.

    Raises:
        InvalidArgument: that is no address.
        FileMissing, FileError: no such socket, or nobody listens there.
        MachineLost: the machine went away.
    """
    argv = ("dial", *_parsed(address))
    process = await builtins.start(*argv)
    try:
        if await process.stdout.receive(1):
            return Connection(process)
        await builtins.finish(process, argv)
    except BaseException:
        process.abandon()
        raise
    raise MachineError(f"the connection to {address} ended before it began")


def _parsed(address: str | int) -> tuple[str, str, str]:
    if isinstance(address, str) and address.startswith(("/", "./")):
        return "unix", address, ""
    host, _, port = str(address).rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidArgument(
            f"{str(address)[:80]!r} is no address in a machine", hint="give a port, HOST:PORT, or the path of a socket"
        )
    return "tcp", host.strip("[]").removesuffix("localhost"), port
