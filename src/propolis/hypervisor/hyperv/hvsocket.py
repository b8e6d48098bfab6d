"""Hyper-V sockets: how a guest that dials a vsock port reaches a process of the host.

The guest connects to CID 2; the host listens at (the machine's id, the port as a service id). Binding to the very
machine needs no registry entry, and nobody else's machine reaches the socket. Follows hvsocket.h; Python knows the
address family from 3.12 on, before that `winsock` helps.
"""

import contextlib
import socket
import sys
import uuid

from propolis.errors import BackendUnavailable
from propolis.hypervisor.hyperv import hresult

AF_HYPERV = 34
HV_PROTOCOL_RAW = 1
_CONNECTED_SUSPEND = 4
_TEMPLATE = "-facb-11e6-bd58-64006a7986d3"
_BACKLOG = 4


def service_id(port: int) -> uuid.UUID:
    """The service that stands for a vsock port."""
    return uuid.UUID(f"{port:08x}{_TEMPLATE}")


def bind_listener(vm_id: uuid.UUID, service: uuid.UUID) -> socket.socket:
    """A socket that listens for one machine's connections to one service. The machine exists, and is not started yet.

    Raises:
        BackendUnavailable: this system has no Hyper-V sockets.
        PropolisError: Windows refuses.
    """
    if sys.platform != "win32":
        raise BackendUnavailable("Hyper-V sockets exist on Windows only")
    try:
        listener = _bound(vm_id, service)
        try:
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise hresult.socket_error("the machine's connection cannot be listened for", error) from error
    return listener


def accept(listener: socket.socket) -> socket.socket:
    """Wait for a connection. Whose address Windows tells of its other end is nowhere written, so it is not asked.

    Raises:
        OSError: the listener was closed, or the connection broke at once.
    """
    if listener.family != AF_HYPERV:
        return listener.accept()[0]
    connection = _accepted(listener)
    _survive_suspend(connection)
    return connection


def _survive_suspend(hyperv: socket.socket) -> None:
    """Keep connections while the host sleeps or the machine is paused, on Windows that can; set before it is bound."""
    with contextlib.suppress(OSError):
        hyperv.setsockopt(HV_PROTOCOL_RAW, _CONNECTED_SUSPEND, 1)


if sys.platform == "win32" and sys.version_info < (3, 12):
    from propolis.hypervisor.hyperv.winsock import _ffi as winsock

    def _bound(vm_id: uuid.UUID, service: uuid.UUID) -> socket.socket:
        made = socket.socket(AF_HYPERV, socket.SOCK_STREAM, HV_PROTOCOL_RAW, fileno=winsock.make_socket())
        try:
            _survive_suspend(made)
            winsock.bind(made.fileno(), vm_id, service)
        except BaseException:
            made.close()
            raise
        return made

    def _accepted(listener: socket.socket) -> socket.socket:
        handle = winsock.accept(listener.fileno())
        return socket.socket(AF_HYPERV, socket.SOCK_STREAM, HV_PROTOCOL_RAW, fileno=handle)

else:

    def _bound(vm_id: uuid.UUID, service: uuid.UUID) -> socket.socket:
        made = socket.socket(AF_HYPERV, socket.SOCK_STREAM, HV_PROTOCOL_RAW)
        try:
            _survive_suspend(made)
            made.bind((str(vm_id), str(service)))
        except BaseException:
            made.close()
            raise
        return made

    def _accepted(listener: socket.socket) -> socket.socket:
        return listener.accept()[0]
