import pytest

from propolis.guest import cmdline
from propolis.spec import Architecture


@pytest.mark.parametrize(("architecture", "console"), [("x86_64", "ttyS0"), ("aarch64", "ttyAMA0")])
def test_the_whole_line(architecture, console):
    assert cmdline.build(Architecture(architecture), layers=3) == (
        f"console={console} quiet panic=-1 cryptomgr.notests propolis.layers=3"
    )
