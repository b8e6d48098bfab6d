import pytest

from propolis.guest import cmdline
from propolis.spec import Architecture


@pytest.mark.parametrize(("architecture", "console"), [("x86_64", "ttyS0"), ("aarch64", "ttyAMA0")])
def test_the_whole_line(architecture, console):
    assert cmdline.build(Architecture(architecture), layers=3) == (
        f"console={console} quiet panic=-1 cryptomgr.notests scsi_mod.scan=manual propolis.layers=3"
    )


def test_under_hyperv_its_sockets_come_before_virtios():
    assert cmdline.build(Architecture.X86_64, layers=0, hyperv=True) == (
        "console=ttyS0 quiet panic=-1 cryptomgr.notests initcall_blacklist=virtio_vsock_init"
        " hv_utils.timesync_implicit=1 propolis.layers=0"
    )
