import ctypes
import socket
import sys
import uuid

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "win32", reason="Winsock is Windows'")


def test_an_address_is_as_the_header_has_it():
    from propolis.hypervisor.hyperv.winsock import _ffi

    assert ctypes.sizeof(_ffi.SOCKADDR_HV) == 36
    service = uuid.UUID("00000400-facb-11e6-bd58-64006a7986d3")
    assert bytes(_ffi._bytes(service)).hex() == "00040000cbfae611bd5864006a7986d3"


def test_a_connection_that_is_taken_carries_bytes():
    from propolis.hypervisor.hyperv.winsock import _ffi

    with socket.create_server(("127.0.0.1", 0)) as listener:
        dialled = socket.create_connection(listener.getsockname())
        handle = _ffi.accept(listener.fileno())
        with dialled, socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=handle) as taken:
            dialled.sendall(b"there")
            assert taken.recv(16) == b"there"
            taken.sendall(b"back")
            assert dialled.recv(16) == b"back"


def test_a_socket_that_is_closed_is_an_error_with_winsocks_number():
    from propolis.hypervisor.hyperv.winsock import _ffi

    with socket.create_server(("127.0.0.1", 0)) as listener:
        handle = listener.fileno()
    with pytest.raises(OSError) as caught:
        _ffi.accept(handle)
    assert caught.value.winerror == 10038
