"""A machine runs from each container that a disk can be in, its own disk included."""

from dataclasses import replace

import pytest

import propolis
from propolis.disk.container import faults, format_of
from propolis.hypervisor.qemu.backend import QemuBackend
from propolis.spec import DiskFormat


@pytest.mark.parametrize("disk_format", DiskFormat)
def test_the_guest_boots_from_each_container(debian_image, disk_format, monkeypatch, tmp_path, data_directory):
    monkeypatch.setenv("PROPOLIS_CACHE", str(tmp_path))
    first = replace(QemuBackend.capabilities, disk_formats=(disk_format,))
    monkeypatch.setattr(QemuBackend, "capabilities", first)
    with propolis.Machine.start(debian_image, ["sleep", "600"]) as machine:
        script = "cat /opt/new/file && rm -r /opt && cp -a /usr/bin /srv/copy && sync && cmp /bin/bash /srv/copy/bash"
        assert machine.exec(["sh", "-ec", script]).text == "deeper\n"
        (own,) = (data_directory / "machines").glob(f"*/machine.{disk_format}")
        assert format_of(own) is disk_format
    layers = list((tmp_path / "layers").glob(f"sha256*.{disk_format}"))
    assert len(layers) == 3
    assert [faults(path) for path in layers] == [[], [], []]
