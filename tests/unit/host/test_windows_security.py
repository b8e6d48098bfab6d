import ctypes
import re

import pytest

from propolis.host import windows_security

EVERYONE, USERS_OF_NO_WINDOWS = "S-1-1-0", "S-1-5-21-1-2-3-4"


def test_the_user_has_a_sid():
    assert re.fullmatch(r"S-1-5-\d+(-\d+)*", windows_security.current_user_sid())


def test_everybody_is_a_member_of_everyone_and_of_nothing_foreign():
    assert windows_security.is_member(EVERYONE)
    assert not windows_security.is_member(USERS_OF_NO_WINDOWS)


def test_a_sid_that_is_none_is_refused():
    with pytest.raises(OSError):
        windows_security.is_member("Administrators")


def test_elevation_is_told():
    assert windows_security.is_elevated() in (True, False)


def test_others_may_act_with_the_users_token_until_it_is_closed():
    advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
    with windows_security.current_user_token() as token:
        assert advapi32.SetThreadToken(None, ctypes.c_void_p(token)), ctypes.get_last_error()
        assert advapi32.RevertToSelf()
    assert not advapi32.SetThreadToken(None, ctypes.c_void_p(token))
