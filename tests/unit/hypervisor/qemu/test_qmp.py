import pytest
from hypothesis import given
from hypothesis import strategies as st

from propolis.errors import BackendError
from propolis.hypervisor.qemu.qmp import MAX_LINE, Connection, Event, Greeting, Reply

DIALOGUE = (
    b'{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}\r\n'
    b'{"return": {}}\r\n'
    b'{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}, "timestamp": {"seconds": 1}}\r\n'
    b'{"error": {"class": "GenericError", "desc": "no such thing"}}\r\n'
)
MESSAGES = [
    Greeting((7, 2, 22)),
    Reply({}),
    Event("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"}),
    Reply(None, "no such thing"),
]


@given(st.lists(st.integers(0, len(DIALOGUE)), max_size=8))
def test_messages_do_not_depend_on_how_the_bytes_are_cut(cuts):
    connection, received, start = Connection(), [], 0
    for cut in [*sorted(cuts), len(DIALOGUE)]:
        received += connection.receive(DIALOGUE[start:cut])
        start = cut
    assert received == MESSAGES


def test_commands_spell_arguments_as_qemu_does():
    assert Connection.command("ringbuf_read", data_size=3) == (
        b'{"execute": "ringbuf_read", "arguments": {"data-size": 3}}\r\n'
    )


@pytest.mark.parametrize("line", [b"hello\n", b"[]\n", b'{"QMP": 1}\n', b'{"error": {}}\n', b'{"x": 1}\n', b"\xff\n"])
def test_what_is_not_qmp_is_refused(line):
    with pytest.raises(BackendError):
        list(Connection().receive(line))


def test_an_endless_line_is_refused():
    with pytest.raises(BackendError, match="endless"):
        list(Connection().receive(b"x" * (MAX_LINE + 1)))
