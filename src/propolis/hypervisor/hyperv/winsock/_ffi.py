"""ws2_32.dll, as much of it as makes a listening Hyper-V socket and takes connections from it. No policy.

Follows winsock2.h and hvsocket.h. Python's own `socket` makes an object of a handle given to it; it only cannot write
or read an address of this family.
"""

import ctypes
import sys
import uuid
from ctypes import POINTER, byref, c_int, c_uint16, c_uint32, c_void_p, sizeof

assert sys.platform == "win32"

AF_HYPERV = 34
HV_PROTOCOL_RAW = 1
_SOCK_STREAM = 1
_WSA_FLAG_OVERLAPPED = 1
_WSA_FLAG_NO_HANDLE_INHERIT = 0x80
_INVALID_SOCKET = ctypes.c_size_t(-1).value


class SOCKADDR_HV(ctypes.Structure):
    """An address: a machine's id and a service's, both in Windows' mixed byte order."""

    _fields_ = [
        ("Family", c_uint16),
        ("Reserved", c_uint16),
        ("VmId", ctypes.c_ubyte * 16),
        ("ServiceId", ctypes.c_ubyte * 16),
    ]


_library = ctypes.WinDLL("ws2_32", use_last_error=True)
_SOCKET = ctypes.c_size_t
_library.WSASocketW.restype = _SOCKET
_library.WSASocketW.argtypes = (c_int, c_int, c_int, c_void_p, c_uint32, c_uint32)
_library.bind.restype = c_int
_library.bind.argtypes = (_SOCKET, POINTER(SOCKADDR_HV), c_int)
_library.accept.restype = _SOCKET
_library.accept.argtypes = (_SOCKET, POINTER(SOCKADDR_HV), POINTER(c_int))


def make_socket() -> int:
    """A new stream socket's handle.

    Raises:
        OSError: Winsock's error.
    """
    flags = _WSA_FLAG_OVERLAPPED | _WSA_FLAG_NO_HANDLE_INHERIT
    handle = int(_library.WSASocketW(AF_HYPERV, _SOCK_STREAM, HV_PROTOCOL_RAW, None, 0, flags))
    if handle == _INVALID_SOCKET:
        raise ctypes.WinError(ctypes.get_last_error())
    return handle


def bind(handle: int, vm_id: uuid.UUID, service_id: uuid.UUID) -> None:
    """Bind to a service of a machine.

    Raises:
        OSError: Winsock's error.
    """
    address = SOCKADDR_HV(AF_HYPERV, 0, _bytes(vm_id), _bytes(service_id))
    if _library.bind(handle, byref(address), sizeof(address)):
        raise ctypes.WinError(ctypes.get_last_error())


def accept(handle: int) -> int:
    """Wait for a connection; its handle.

    Raises:
        OSError: Winsock's error, also when the socket was closed meanwhile.
    """
    accepted = int(_library.accept(handle, None, None))
    if accepted == _INVALID_SOCKET:
        raise ctypes.WinError(ctypes.get_last_error())
    return accepted


def _bytes(identity: uuid.UUID) -> ctypes.Array[ctypes.c_ubyte]:
    return (ctypes.c_ubyte * 16).from_buffer_copy(identity.bytes_le)
