"""`base.Platform` on Windows itself."""

import os
import socket
import sys
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

assert sys.platform == "win32"

from propolis.errors import BackendError
from propolis.host.windows import build_number
from propolis.host.windows_pipe import PipeReader
from propolis.host.windows_security import current_user_sid, current_user_token
from propolis.hypervisor.hyperv import files, hvsocket
from propolis.hypervisor.hyperv._ffi import ComputeCore
from propolis.hypervisor.hyperv.base import ConsolePipe

_REDIRECTED = "AppData"
_VIRTUAL_MACHINES = "S-1-5-83-0"
"""The group of all machines' accounts, one of which opens the pipe."""


class WindowsPlatform:
    """See `base.Platform`."""

    def library(self) -> ComputeCore:
        """See `Platform.library`."""
        return ComputeCore()

    def build(self) -> int:
        """See `Platform.build`."""
        return build_number()

    def user_sid(self) -> str:
        """See `Platform.user_sid`."""
        return current_user_sid()

    def user_token(self) -> AbstractContextManager[int]:
        """See `Platform.user_token`."""
        return current_user_token()

    def console(self, name: str, take: Callable[[bytes], None]) -> ConsolePipe:
        """See `Platform.console`."""
        return _Pipe(name, take)

    def listen(self, vm_id: uuid.UUID, service_id: uuid.UUID) -> socket.socket:
        """See `Platform.listen`."""
        return hvsocket.bind_listener(vm_id, service_id)

    def reach(self, path: Path) -> Path:
        """See `Platform.reach`.

        Not always where we find it: what a Python of the Microsoft Store keeps below AppData lies elsewhere, for its
        package alone, and a drive that `subst` has made is there for its session only.
        """
        _refuse(path, files.objection_to_path(str(path), str(path)))  # what is too long may seem to be missing
        try:
            found = path.stat()
            resolved = _resolved(path)
        except OSError as error:
            raise BackendError(f"{path} cannot be read: {error.strerror}") from error
        _refuse(path, files.objection_to_path(str(path), resolved) or files.objection_to_path(resolved, resolved))
        if path.is_file():
            _refuse(path, files.objection_to_attributes(found.st_file_attributes))
        return Path(resolved)


def _resolved(path: Path) -> str:
    if path.is_dir() and _REDIRECTED in path.parts:
        # the place of a directory that is redirected is only told of files in it
        with os.scandir(path) as entries:
            inside = next((entry.path for entry in entries if entry.is_file(follow_symlinks=False)), None)
        if inside is not None:
            return str(Path(os.path.realpath(inside)).parent)
    return os.path.realpath(path)


def _refuse(path: Path, objection: files.Objection | None) -> None:
    if objection is not None:
        raise BackendError(f"{path} {objection.reason}", hint=objection.cure)


class _Pipe:
    def __init__(self, name: str, take: Callable[[bytes], None]) -> None:
        self.path = rf"\\.\pipe\{name}"
        self._reader = PipeReader(name, take, allow=(_VIRTUAL_MACHINES,))

    def close(self) -> None:
        self._reader.close()
