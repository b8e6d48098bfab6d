"""What a Windows under Wine lacks, put in its place when the interpreter starts: sockets to machines (AF_HYPERV).

`propolis.hypervisor.hyperv.hvsocket.bind_listener` is replaced by one that listens on the loopback interface and tells
the port in a file of the directory PROPOLIS_HVSOCKETS, where the stand-in's bridge looks for it when the guest dials.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import socket
import sys
import uuid
from pathlib import Path

_MODULE = "propolis.hypervisor.hyperv.hvsocket"
_BACKLOG = 8


def bind_listener(vm_id: uuid.UUID, service_id: uuid.UUID) -> socket.socket:
    """A socket that listens for this machine and service, on the loopback interface."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    place = Path(os.environ["PROPOLIS_HVSOCKETS"], f"{vm_id}.{service_id}")
    staged = place.with_name(f".{place.name}.{os.getpid()}")
    staged.write_text(str(listener.getsockname()[1]), encoding="ascii")
    staged.replace(place)
    return listener


class _Loader(importlib.abc.Loader):
    """Loads the module as it is, then replaces the function in it."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        self._loader.exec_module(module)
        assert callable(module.bind_listener)
        module.bind_listener = bind_listener


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if fullname != _MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


sys.meta_path.insert(0, _Finder())
