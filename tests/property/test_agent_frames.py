import json

from hypothesis import given
from hypothesis import strategies as st

from propolis import spec
from propolis.agent import wire
from propolis.agent.session import Exited, Output, Session
from propolis.agent.wire import FrameType, Source, pack
from propolis.errors import ProtocolError

HELLO = pack(FrameType.HELLO, 0, json.dumps({"generation": 1, "release": "r", "machine": "m", "stamps": {}}).encode())
STARTED = pack(FrameType.STARTED, 1, wire.U32.pack(7))


def running() -> Session:
    session = Session()
    list(session.receive(HELLO))
    session.exec(spec.Process(argv=("x",)), 1 << 20)
    list(session.receive(STARTED))
    return session


pieces = st.lists(
    st.tuples(st.sampled_from([Source.STDOUT, Source.STDERR]), st.binary(min_size=1, max_size=300)), max_size=20
)


@given(pieces, st.lists(st.integers(1, 400), min_size=1))
def test_events_do_not_depend_on_how_the_bytes_are_cut(output, cuts):
    stream = b"".join(pack(FrameType[source.name], 1, data) for source, data in output)
    stream += pack(FrameType.EXIT, 1, wire.U32_PAIR.pack(9, 0))
    session, events, at, turn = running(), [], 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        events += session.receive(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert events == [Output(1, source, data) for source, data in output] + [Exited(1, 9, 0)]


@given(st.lists(st.binary(max_size=200), max_size=8), st.booleans())
def test_any_bytes_give_events_or_a_protocol_error(chunks, greeted):
    session = running() if greeted else Session()
    try:
        for chunk in chunks:
            list(session.receive(chunk))
    except ProtocolError:
        pass


frames = st.tuples(
    st.sampled_from([kind for kind in FrameType if kind >= FrameType.HELLO]), st.integers(0, 2), st.binary(max_size=20)
)


@given(st.lists(frames, max_size=12))
def test_well_formed_frames_in_any_order_give_events_or_a_protocol_error(sequence):
    session = running()
    try:
        list(session.receive(b"".join(pack(kind, stream, payload) for kind, stream, payload in sequence)))
    except ProtocolError:
        pass


@given(st.data())
def test_a_changed_byte_in_a_good_conversation_is_harmless(data):
    good = HELLO + STARTED + pack(FrameType.STDOUT, 1, b"hello") + pack(FrameType.EXIT, 1, wire.U32_PAIR.pack(0, 9))
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes([data.draw(st.integers(0, 255))]) + good[at + 1 :]
    session = Session()
    session.exec(spec.Process(argv=("x",)), 100)
    try:
        list(session.receive(bad))
    except ProtocolError:
        pass
