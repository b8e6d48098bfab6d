"""The agent protocol, generation 1: definitions only. `guest/wire.h` and `schema/gen-1.json` come from here.

One reliable byte stream carries frames. A frame is a header (little-endian: payload length u32, type u8, flags u8, two
zero bytes, stream u32) and at most 64 KiB of payload. Stream 0 is the connection itself; every other stream is one
process, numbered by the host, never used twice.

Order. The guest speaks first (HELLO). EXEC or START opens a stream; the guest answers STARTED or FAILED. A stream ends
with FAILED or EXIT and the guest sends nothing on it afterwards; what the host sent meanwhile is ignored by the guest.

Documents. EXEC and START carry JSON: `spec.Process.to_json()` plus `credit` (EXEC), `credit` alone (START: the process
is the one of `/.propolis_init.json`, once per boot). A document longer than one frame is cut: each frame but the last
has the flag MORE, and no other frame comes between.

Credit. Bulk data (STDIN, STDOUT, STDERR) may only be sent against credit in bytes, kept apart for each of the three.
The document's `credit` is the first grant for STDOUT and also for STDERR; the guest grants STDIN after STARTED. Who is
behind simply stops granting, so nobody buffers without bound. Everything else is small and needs no credit.

Input. STDIN_EOF closes the pipe; on a terminal the guest types the end-of-file character. STDIN_CLOSED tells that the
process no longer reads: what is sent after that is dropped.

Exit. EXIT follows the process' last output: everything that was in its pipes when it ended is sent first. If a
descendant keeps a pipe open, output goes on until end of file, or until nothing came for DRAIN_SILENCE_MS, or until
DRAIN_LIMIT_MS after the end, whichever is first; then the guest closes the pipes. With a terminal all output is STDOUT.

Builtins. An EXEC whose document says `builtin` runs a program of the agent itself (`guest/builtin.h`): files, archives,
connections, statistics. Its exit status is 0 or a Linux errno, with a sentence on standard error.

Owners. The process that owns a machine serves the same protocol to others of its user (`relay.py`). There builtins
whose name begins with `host.` are programs of the owner, START is refused, and SHUTDOWN ends the machine as its owner
would. The guest never sees any of it.

CLOCK tells the host's time; the guest slews a small difference away and steps over a large one.

SHUTDOWN sends SIGTERM to everything, SIGKILL after the grace, syncs, powers off; EXIT frames still come meanwhile.
"""

import struct
from enum import IntEnum, IntFlag

GENERATION = 1
PORT_NAME = "propolis.agent.0"
"""The name of the virtio-serial port."""

# Where else a guest finds what is its own. The host says none of it in frames, so no generation contains it.
VSOCK_PORT = 1024
"""Where the host listens for the agent if there is AF_VSOCK instead of virtio-serial. Guests dial, hosts listen."""
SHARE_PORT = 564
"""The vsock port of Hyper-V's 9P server, which tells shares apart by the name that is attached to: the share's tag."""
SCSI_CONTROLLERS = (
    "df6d0690-79e5-55b6-a5ec-c1e2f77f580a",
    "0110f83b-de10-5172-a266-78bca56bf50a",
    "b5d2d8d4-3a75-51bf-945b-3444dc6b8579",
    "305891a9-b251-5dfe-91a2-c25d9212275b",
)
"""VMBus instances of a Hyper-V machine's disk controllers, in the order in which its disks fill them."""
SCSI_LUNS = 64
"""Disks of one such controller."""

HEADER = struct.Struct("<IBBHI")
"""Payload length, type, flags, zero, stream."""

MAX_PAYLOAD = 65536
MAX_DOCUMENT = 4 << 20
"""Bytes of one JSON document, all its frames together."""
MAX_TEXT = 2048
"""Bytes of the text in FAILED."""
MAX_CREDIT = 16 << 20
"""More than this must never be outstanding for one direction of one stream."""
MAX_STREAMS = 1024
"""Processes that the guest runs at once for the host."""
STDIN_WINDOW = 262144
"""What the guest holds for one process' standard input, and so its greatest grant."""
DRAIN_SILENCE_MS = 100
DRAIN_LIMIT_MS = 1000
MAX_GRACE_MS = 600_000


class FrameType(IntEnum):
    """Below 128: host to guest. From 128: guest to host. CREDIT goes both ways under two numbers."""

    EXEC = 1
    START = 2
    STDIN = 3
    STDIN_EOF = 4
    SIGNAL = 5
    RESIZE = 6
    GRANT = 7
    """Credit from the host, for STDOUT or STDERR."""
    SHUTDOWN = 8
    PING = 9
    CLOCK = 10

    HELLO = 128
    STARTED = 129
    STDOUT = 130
    STDERR = 131
    CREDIT = 132
    """Credit from the guest, for STDIN."""
    STDIN_CLOSED = 133
    EXIT = 134
    FAILED = 135
    PONG = 136


class Flag(IntFlag):
    """Header flags. A flag not named here is a protocol error."""

    MORE = 1


class Source(IntEnum):
    """Which output a GRANT is for; the process' descriptor number."""

    STDOUT = 1
    STDERR = 2


class SignalScope(IntEnum):
    """Whom SIGNAL reaches."""

    PROCESS = 0
    GROUP = 1


class Failure(IntEnum):
    """Why FAILED: a process was not started."""

    INVALID = 1
    """The request itself."""
    NOT_FOUND = 2
    NOT_EXECUTABLE = 3
    USER = 4
    """User or group unknown in the image."""
    WORKING_DIR = 5
    RESOURCES = 6
    """The guest has no memory, process or stream left."""
    SYSTEM = 7
    """A system call failed in a way that should not happen."""


PAYLOADS: dict[FrameType, str] = {
    FrameType.EXEC: "JSON: spec.Process.to_json(), credit",
    FrameType.START: "JSON: credit",
    FrameType.STDIN: "bytes, at least one",
    FrameType.STDIN_EOF: "",
    FrameType.SIGNAL: "u32 signal number, u32 SignalScope",
    FrameType.RESIZE: "u16 rows, u16 columns",
    FrameType.GRANT: "u32 Source, u32 bytes",
    FrameType.SHUTDOWN: "u32 grace in milliseconds",
    FrameType.PING: "u64 token",
    FrameType.CLOCK: "u64 nanoseconds since 1970",
    FrameType.HELLO: "JSON: generation, release, machine, stamps {init, disks, root, ready} in ms of uptime",
    FrameType.STARTED: "u32 pid",
    FrameType.STDOUT: "bytes, at least one",
    FrameType.STDERR: "bytes, at least one",
    FrameType.CREDIT: "u32 bytes",
    FrameType.STDIN_CLOSED: "",
    FrameType.EXIT: "u32 exit status, u32 signal (0: it exited)",
    FrameType.FAILED: "u32 Failure, UTF-8 text",
    FrameType.PONG: "u64 token",
}
"""What each frame carries; numbers are little-endian."""

U32 = struct.Struct("<I")
U32_PAIR = struct.Struct("<II")
U16_PAIR = struct.Struct("<HH")
U64 = struct.Struct("<Q")


def pack(frame_type: FrameType, stream: int, payload: bytes | memoryview = b"", flags: int = 0) -> bytes:
    """One frame as bytes. The payload must fit; nothing is checked here."""
    return HEADER.pack(len(payload), frame_type, flags, 0, stream) + payload
