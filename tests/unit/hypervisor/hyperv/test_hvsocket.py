import socket
import sys
import uuid

import pytest

from propolis.errors import BackendUnavailable
from propolis.hypervisor.hyperv import hvsocket


def test_a_port_is_a_service_by_the_vsock_template():
    assert str(hvsocket.service_id(1024)) == "00000400-facb-11e6-bd58-64006a7986d3"
    assert str(hvsocket.service_id(0xFFFFFFFF)) == "ffffffff-facb-11e6-bd58-64006a7986d3"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has them")
def test_other_systems_have_no_such_sockets():
    with pytest.raises(BackendUnavailable, match="Windows only"):
        hvsocket.bind_listener(uuid.uuid4(), hvsocket.service_id(1024))


def test_a_socket_of_another_kind_does_not_say_who_connects():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dialled = socket.create_connection(listener.getsockname())
        accepted, peer = hvsocket.accept(listener)
        assert peer is None
        accepted.close()
        dialled.close()


@pytest.mark.skipif(sys.platform == "win32" and sys.version_info < (3, 12), reason="there Winsock is asked")
def test_a_machines_connection_says_which_machine():
    machine = uuid.uuid4()

    class Listener:
        family = hvsocket.AF_HYPERV

        def accept(self):
            return near, (str(machine).upper(), str(hvsocket.service_id(1024)))

    near, far = socket.socketpair()
    with near, far:
        assert hvsocket.accept(Listener()) == (near, machine)
