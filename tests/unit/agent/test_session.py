import json

import pytest

from propolis import spec
from propolis.agent import wire
from propolis.agent.session import (
    TRANSITIONS,
    Credit,
    Exited,
    Failed,
    Hello,
    InputClosed,
    Output,
    Pong,
    Session,
    Started,
    StreamState,
)
from propolis.agent.wire import Failure, FrameType, Source, pack
from propolis.errors import InvalidArgument, ProtocolError

GREETING = {"generation": 1, "release": "6.1", "machine": "x86_64", "stamps": {"init": 5}}
HELLO = pack(FrameType.HELLO, 0, json.dumps(GREETING).encode())
STARTED = pack(FrameType.STARTED, 1, wire.U32.pack(42))
EXIT = pack(FrameType.EXIT, 1, wire.U32_PAIR.pack(3, 0))
GUEST_STREAM_FRAMES = {
    FrameType.STARTED: wire.U32.pack(42),
    FrameType.STDOUT: b"o",
    FrameType.STDERR: b"e",
    FrameType.CREDIT: wire.U32.pack(10),
    FrameType.STDIN_CLOSED: b"",
    FrameType.EXIT: wire.U32_PAIR.pack(0, 0),
    FrameType.FAILED: wire.U32.pack(1) + b"no",
}
PROCESS = spec.Process(argv=("true",))


def greeted() -> Session:
    session = Session()
    assert list(session.receive(HELLO)) == [Hello("6.1", "x86_64", {"init": 5})]
    return session


def running(credit: int = 100) -> Session:
    session = greeted()
    stream, _ = session.exec(PROCESS, credit)
    assert stream == 1
    assert list(session.receive(STARTED)) == [Started(1, 42)]
    return session


@pytest.mark.parametrize("state", [StreamState.STARTING, StreamState.RUNNING, StreamState.CLOSED])
@pytest.mark.parametrize("kind", GUEST_STREAM_FRAMES)
def test_table_of_stream_states_is_what_is_accepted(state, kind):
    session = greeted() if state is StreamState.STARTING else running()
    if state is StreamState.STARTING:
        session.exec(PROCESS, 100)
    if state is StreamState.CLOSED:
        list(session.receive(EXIT))
    frame = pack(kind, 1, GUEST_STREAM_FRAMES[kind])
    if kind in TRANSITIONS[state]:
        assert len(list(session.receive(frame))) == 1
    else:
        with pytest.raises(ProtocolError):
            list(session.receive(frame))


def test_every_event_of_a_process():
    session = running()
    frames = [
        pack(FrameType.CREDIT, 1, wire.U32.pack(7)),
        pack(FrameType.STDOUT, 1, b"out"),
        pack(FrameType.STDERR, 1, b"err"),
        pack(FrameType.STDIN_CLOSED, 1),
        EXIT,
    ]
    expected = [
        Credit(1, 7),
        Output(1, Source.STDOUT, b"out"),
        Output(1, Source.STDERR, b"err"),
        InputClosed(1),
        Exited(1, 3, 0),
    ]
    assert list(session.receive(b"".join(frames))) == expected


def test_output_beyond_its_credit_is_refused_and_stderr_has_its_own():
    session = running(credit=4)
    list(session.receive(pack(FrameType.STDOUT, 1, b"1234") + pack(FrameType.STDERR, 1, b"1234")))
    session.grant(1, Source.STDOUT, 2)
    list(session.receive(pack(FrameType.STDOUT, 1, b"12")))
    with pytest.raises(ProtocolError, match="beyond its credit"):
        list(session.receive(pack(FrameType.STDOUT, 1, b"1")))


def test_input_needs_credit():
    session = running()
    with pytest.raises(InvalidArgument):
        session.stdin(1, b"x")
    list(session.receive(pack(FrameType.CREDIT, 1, wire.U32.pack(3))))
    assert session.stdin(1, b"xy") == pack(FrameType.STDIN, 1, b"xy")
    assert session.input_credit(1) == 1


@pytest.mark.parametrize(
    "frame",
    [
        pack(FrameType.CREDIT, 1, wire.U32.pack(wire.STDIN_WINDOW + 1)),
        pack(FrameType.CREDIT, 1, wire.U32.pack(0)),
        pack(FrameType.CREDIT, 1, b"abc"),
        pack(FrameType.STDOUT, 1, b""),
        pack(FrameType.EXIT, 1, wire.U32_PAIR.pack(256, 0)),
        pack(FrameType.EXIT, 1, wire.U32_PAIR.pack(1, 9)),
        pack(FrameType.EXIT, 1, wire.U32_PAIR.pack(0, 128)),
        pack(FrameType.STDOUT, 2, b"x"),
        pack(FrameType.STDOUT, 0, b"x"),
        pack(FrameType.HELLO, 0, b"{}"),
        pack(FrameType.HELLO, 1, b"{}"),
        pack(FrameType.PONG, 0, wire.U64.pack(1)),
        pack(FrameType.PONG, 1, wire.U64.pack(1)),
        pack(FrameType.EXEC, 1, b"{}"),
        pack(FrameType.STDOUT, 1, b"x", flags=1),
        wire.HEADER.pack(wire.MAX_PAYLOAD + 1, FrameType.STDOUT, 0, 0, 1),
        wire.HEADER.pack(0, 77, 0, 0, 1),
        wire.HEADER.pack(1, FrameType.STDOUT, 0, 1, 1) + b"x",
    ],
    ids=range(18),
)
def test_lies_of_the_guest_are_protocol_errors(frame):
    with pytest.raises(ProtocolError):
        list(running().receive(frame))


@pytest.mark.parametrize(
    "change", [{"generation": 2}, {"generation": True}, {"release": 1}, {"stamps": []}, {"stamps": {"x": -1}}]
)
def test_a_greeting_that_is_not_ours_is_refused(change):
    with pytest.raises(ProtocolError):
        list(Session().receive(pack(FrameType.HELLO, 0, json.dumps(GREETING | change).encode())))


@pytest.mark.parametrize("payload", [b"", b"[]", b"nonsense", b"[" * 60000, b"\xff"])
def test_a_greeting_that_is_not_json_is_refused(payload):
    with pytest.raises(ProtocolError):
        list(Session().receive(pack(FrameType.HELLO, 0, payload)))


def test_nothing_may_come_before_the_greeting():
    with pytest.raises(ProtocolError):
        list(Session().receive(pack(FrameType.PONG, 0, wire.U64.pack(0))))


def test_failure_text_is_made_printable():
    session = greeted()
    session.start(10)
    (event,) = session.receive(pack(FrameType.FAILED, 1, wire.U32.pack(Failure.USER) + b"bad \x1b[31m\xff"))
    assert event == Failed(1, Failure.USER, "bad ?[31m\N{REPLACEMENT CHARACTER}")


def test_a_long_request_is_cut_into_frames_that_join_again():
    session = greeted()
    process = spec.Process(argv=("x", "\udcff" * 100_000))
    _, data = session.exec(process, 5)
    document, flags = b"", []
    while data:
        length, kind, flag, _, stream = wire.HEADER.unpack_from(data)
        assert (kind, stream) == (FrameType.EXEC, 1)
        document, data = document + data[12 : 12 + length], data[12 + length :]
        flags.append(flag)
    assert flags == [1] * (len(flags) - 1) + [0]
    assert len(flags) > 1
    assert json.loads(document) == process.to_json() | {"credit": 5}


@pytest.mark.parametrize("argv", [("a\0b",), ("x" * (wire.MAX_DOCUMENT + 1),)])
def test_requests_that_cannot_be_carried_are_the_callers_fault(argv):
    with pytest.raises(InvalidArgument):
        greeted().exec(spec.Process(argv=argv), 5)


def test_calls_for_an_ended_stream_send_nothing():
    session = running()
    list(session.receive(EXIT))
    sent = [
        session.signal(1, 15),
        session.resize(1, 1, 1),
        session.grant(1, Source.STDOUT, 1),
        session.stdin_eof(1),
        session.stdin(1, b"x"),
    ]
    assert sent == [b""] * 5


@pytest.mark.parametrize(
    "call",
    [lambda s: s.signal(1, 0), lambda s: s.resize(1, -1, 0), lambda s: s.shutdown(-1), lambda s: s.shutdown(1e9)],
)
def test_values_no_frame_can_carry_are_refused(call):
    with pytest.raises(InvalidArgument):
        call(running())


def test_pings_are_answered_in_order_and_bounded():
    session = greeted()
    for token in range(64):
        session.ping(token)
    with pytest.raises(InvalidArgument):
        session.ping(64)
    assert list(session.receive(pack(FrameType.PONG, 0, wire.U64.pack(0)))) == [Pong(0)]
    with pytest.raises(ProtocolError):
        list(session.receive(pack(FrameType.PONG, 0, wire.U64.pack(2))))
