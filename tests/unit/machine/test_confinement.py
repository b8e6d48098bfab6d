import pytest

from propolis.errors import InvalidArgument
from propolis.machine.confinement import CAPABILITIES, capability_mask, rlimits, sysctls

DOCKER = 0xA80425FB


def test_the_default_is_dockers():
    assert capability_mask() == DOCKER
    assert CAPABILITIES.index("SYS_ADMIN") == 21
    assert CAPABILITIES.index("CHECKPOINT_RESTORE") == 40


def test_capabilities_are_added_and_dropped_by_any_spelling():
    assert capability_mask(add=["cap_sys_admin"]) == DOCKER | 1 << 21
    assert capability_mask(drop=["CAP_CHOWN"]) == DOCKER & ~1
    assert capability_mask(drop=["all"], add=["KILL"]) == 1 << 5
    assert capability_mask(add=["ALL"], drop=["SYS_BOOT"]) == (1 << 41) - 1 & ~(1 << 22)
    assert capability_mask(privileged=True) is None
    assert capability_mask(privileged=True, drop=["CHOWN"]) == (1 << 41) - 2
    with pytest.raises(InvalidArgument):
        capability_mask(add=["SYS_NONSENSE"])


def test_limits_in_every_form():
    given = {"nofile": "10:20", "core": 0, "stack": (1, -1), "memlock": "unlimited", "nproc": "5"}
    assert rlimits(given) == ((7, 10, 20), (4, 0, 0), (3, 1, -1), (8, -1, -1), (6, 5, 5))


@pytest.mark.parametrize("given", [{"x": 1}, {"nofile": "a"}, {"nofile": (3, 2)}, {"nofile": -2}, {"nofile": (-1, 5)}])
def test_what_is_no_limit(given):
    with pytest.raises(InvalidArgument):
        rlimits(given)


def test_kernel_parameters():
    assert sysctls({"net.core.somaxconn": 7, "kernel/x.y-z": "a b"}) == ("net.core.somaxconn=7", "kernel/x.y-z=a b")
    for name in ("x", "a..b", "../x.y", "a.b=c", "a.b\n"):
        with pytest.raises(InvalidArgument):
            sysctls({name: 1})
    with pytest.raises(InvalidArgument):
        sysctls({"a.b": "1\n2"})
