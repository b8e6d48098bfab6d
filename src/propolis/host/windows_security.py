"""Who runs this process on Windows, and with which rights. SIDs are strings, as S-1-5-18."""

import sys

assert sys.platform == "win32"

from contextlib import AbstractContextManager

from propolis.host.win32 import _ffi

SYSTEM = "S-1-5-18"
HYPERV_ADMINISTRATORS = "S-1-5-32-578"


def current_user_sid() -> str:
    """The user's SID.

    Raises:
        OSError: the token cannot be read.
    """
    return _ffi.token_user()


def current_user_token() -> AbstractContextManager[int]:
    """A token that others can act with as the user, with this process' rights; a handle, valid inside the context.

    Raises:
        OSError: the token cannot be had.
    """
    return _ffi.impersonation_token()


def is_elevated() -> bool:
    """Whether this process has administrator's rights; a member of the group that did not ask for them has not.

    Raises:
        OSError: the token cannot be read.
    """
    return _ffi.token_is_elevated()


def is_member(sid: str) -> bool:
    """Whether this process acts with the rights of the group `sid`; joining one takes effect with the next log-on.

    Raises:
        OSError: the token cannot be read, or `sid` is no SID.
    """
    return _ffi.token_has_member(sid)
