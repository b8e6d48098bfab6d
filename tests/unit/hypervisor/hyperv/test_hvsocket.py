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


def test_a_socket_of_another_kind_is_taken_from_as_well():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dialled = socket.create_connection(listener.getsockname())
        hvsocket.accept(listener).close()
        dialled.close()


@pytest.mark.skipif(sys.platform == "win32" and sys.version_info < (3, 12), reason="there Winsock is asked")
@pytest.mark.parametrize("address", [(str(uuid.UUID(int=0)), str(uuid.uuid4())), (), None])
def test_a_machines_connection_is_taken_whatever_address_windows_tells(address):
    class Listener:
        family = hvsocket.AF_HYPERV

        def accept(self):
            return near, address

    near, far = socket.socketpair()
    with near, far:
        assert hvsocket.accept(Listener()) is near
