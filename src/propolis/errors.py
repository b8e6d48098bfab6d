"""Every exception that propolis raises on purpose.

A class exists where a caller would react differently. Each message says what failed and whose fault it is; `hint` says
what to do next. `exit_code` is what the command line exits with (docker's conventions).

    PropolisError                      125
    ├── InvalidArgument                125  the call is wrong: change the call (also a ValueError)
    ├── ImageError                     125
    │   ├── ImageNotFound                   nothing there, or nothing by that name: check the reference
    │   ├── ImageInvalid                    the image's bytes break the specification: get another copy
    │   │   └── DigestMismatch              bytes differ from the digest that names them
    │   │       └── BlobDamaged             those were kept here, and are gone: another try fetches them
    │   ├── PlatformMismatch                the image is for another architecture or system
    │   ├── ImageInUse                   1  a machine uses the image: stop it first
    │   ├── SignatureRejected               the signature policy of this host does not let the image be used
    │   ├── DaemonError                     a container engine on this host: not running, refuses, or broke
    │   └── RegistryError                   a registry refused or broke; the message has its own words
    │       ├── AccessDenied                log in, or ask for access
    │       └── RegistryUnreachable         no connection, or it went silent: check network, proxy and CA; try again
    ├── DiskError                      125  a disk cannot be made or read
    │   ├── DiskDamaged                     the file is not what was written; `path` names it
    │   ├── LayerUnsupported                the layer holds something a disk of ours cannot carry
    │   └── StorageFull                     no room on the host: free some
    ├── KernelError                    125
    │   ├── KernelNotFound                  no kernel on this host: install or name one
    │   └── KernelUnsuitable                this kernel lacks a needed feature
    ├── BackendError                   125  a hypervisor refused or broke
    │   ├── BackendUnavailable              no usable backend; says why for each candidate
    │   └── Unsupported                     this backend cannot do that
    ├── MachineError                   125
    │   ├── NameInUse                       another machine has that name
    │   ├── MachineNotFound                 no machine that runs is called that
    │   ├── BootFailed                      the guest never answered; `console` has its last words
    │   ├── MachineLost                     the guest went away while in use; `console` as above
    │   ├── ProtocolError                   the guest broke the agent protocol
    │   ├── FileError                       a file in the guest: see `errno` (also an OSError)
    │   │   └── FileMissing                 no such file in the guest (also a FileNotFoundError)
    │   └── ProcessError               125  the process could not be started in the guest
    │       ├── CommandNotFound        127
    │       └── CommandNotExecutable   126
    ├── DeadlineExceeded               124  a time limit given by the caller ran out (also a TimeoutError)
    ├── CacheBusy                      125  another process keeps everybody from the cache: the message names it
    └── StateError                     125  the data directory is damaged or of another version
"""

from pathlib import Path
from typing import ClassVar


class PropolisError(Exception):
    """Base of everything that propolis raises on purpose.

    Args:
        message: what failed and whose fault it is, in one line.
        hint: what to do next, in one line; empty when there is nothing to say.
    """

    exit_code: ClassVar[int] = 125

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        """The message alone; `hint` is shown by whoever presents the error."""
        return str(self.args[0])


class InvalidArgument(PropolisError, ValueError):
    """The caller's argument cannot mean anything: change the call."""


class ImageError(PropolisError):
    """An image cannot be used."""


class ImageNotFound(ImageError):
    """There is no image at that place, or none by that name."""


class ImageInvalid(ImageError):
    """The image's bytes break the image specification."""


class DigestMismatch(ImageInvalid):
    """Bytes differ from the digest that names them."""


class BlobDamaged(DigestMismatch):
    """What was kept of a blob is not what had come; it is gone, and another try gets the blob where it is from."""


class PlatformMismatch(ImageError):
    """The image is for another architecture or operating system."""


class ImageInUse(ImageError):
    """A machine, or another command, uses the image."""

    exit_code = 1


class SignatureRejected(ImageError):
    """The signature policy of this host does not let the image be used: none, or none that counts, has signed it."""


class DaemonError(ImageError):
    """A container engine that was asked for an image cannot be reached, refused, or broke."""


class RegistryError(ImageError):
    """A registry refused or broke."""


class AccessDenied(RegistryError):
    """The registry, or this host's configuration, does not let us have the image."""


class RegistryUnreachable(RegistryError):
    """There is no connection to the registry, or none that can be trusted, or it went silent."""


class DiskError(PropolisError):
    """A disk cannot be made or read."""


class DiskDamaged(DiskError):
    """A disk's file is not what was once written to it; `path` names the file."""

    def __init__(self, message: str, *, path: Path, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.path = path


class LayerUnsupported(DiskError):
    """The layer holds something that a disk of ours cannot carry."""


class StorageFull(DiskError):
    """The host has no room left where the file was to be written."""


class KernelError(PropolisError):
    """A kernel cannot be used."""


class KernelNotFound(KernelError):
    """There is no kernel on this host, or none where the caller pointed."""


class KernelUnsuitable(KernelError):
    """The kernel lacks a feature that every guest needs."""


class BackendError(PropolisError):
    """A hypervisor refused a request or broke."""


class BackendUnavailable(BackendError):
    """No usable backend; the message lists every candidate with its reason."""


class Unsupported(BackendError):
    """The chosen backend cannot do that."""


class MachineError(PropolisError):
    """Something went wrong with one machine."""


class NameInUse(MachineError):
    """Another machine has that name."""


class MachineNotFound(MachineError):
    """No machine that runs has that name or id."""


class _WithConsole(MachineError):
    def __init__(self, message: str, *, hint: str = "", console: str = "") -> None:
        super().__init__(message, hint=hint)
        self.console = console


class BootFailed(_WithConsole):
    """The guest never answered; `console` holds the end of what it printed."""


class MachineLost(_WithConsole):
    """The guest went away while it was in use; `console` holds the end of what it printed."""


class ProtocolError(MachineError):
    """The guest broke the agent protocol."""


class FileError(MachineError, OSError):
    """The guest refused something about a file; `errno` is Linux' number, `filename` what it is about."""

    def __init__(self, message: str, *, number: int, path: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errno = number
        self.filename = path


class FileMissing(FileError, FileNotFoundError):
    """There is no such file in the guest."""


class ProcessError(MachineError):
    """The process could not be started in the guest."""


class CommandNotFound(ProcessError):
    """The program does not exist in the image."""

    exit_code = 127


class CommandNotExecutable(ProcessError):
    """The program exists in the image but cannot be executed."""

    exit_code = 126


class DeadlineExceeded(PropolisError, TimeoutError):
    """A time limit given by the caller ran out."""

    exit_code = 124


class CacheBusy(PropolisError):
    """Another process has kept everybody else from the cache for too long; it may be stopped, or hang."""


class StateError(PropolisError):
    """The data directory is damaged or was written by another version."""
