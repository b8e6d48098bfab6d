"""The kernel of the package propolis-kernel: found first, passed over on request, and with all that guests need."""

import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from propolis.errors import KernelUnsuitable
from propolis.guest import features, kernel
from propolis.guest.bundle import Source
from propolis.spec import Architecture

X86 = Architecture.X86_64

REQUIRED = {
    "PVH": "it is entered without a decompressor",
    "SMP": "more than one processor",
    "VIRTIO_PCI": "the bus",
    "VIRTIO_MMIO": "the bus of microvm and of libkrun",
    "VIRTIO_BLK": "disks",
    "SCSI_VIRTIO": "disks by LUN",
    "VIRTIO_CONSOLE": "the agent's channel",
    "VIRTIO_NET": "network",
    "VIRTIO_VSOCKETS": "the agent's channel under libkrun",
    "VIRTIO_BALLOON": "memory given back",
    "HW_RANDOM_VIRTIO": "entropy",
    "VIRTIO_FS": "shares under libkrun",
    "NET_9P_VIRTIO": "shares under QEMU",
    "NET_9P_FD": "shares under Hyper-V",
    "9P_FS": "shares",
    "HYPERV": "Hyper-V",
    "KALLSYMS": "initcall_blacklist, by which Hyper-V's sockets come before virtio's",
    "HYPERV_STORAGE": "its disks",
    "HYPERV_VSOCKETS": "its channels",
    "HYPERV_UTILS": "its clock and shutdown",
    "HYPERV_NET": "its network",
    "EXT4_FS": "the disks",
    "EXT4_FS_POSIX_ACL": "ACLs of images",
    "EXT4_FS_SECURITY": "file capabilities of images",
    "OVERLAY_FS": "layers",
    "EROFS_FS": "other people's layers",
    "TMPFS_XATTR": "attributes in memory",
    "TUN": "network over hvsock",
    "CGROUPS": "limits",
    "MEMCG": "limits of memory",
    "CGROUP_PIDS": "limits of processes",
    "CPUSETS": "limits of processors",
    "BLK_CGROUP": "limits of disks",
    "USER_NS": "containers inside",
    "PID_NS": "the workload's own processes",
    "NET_NS": "containers inside",
    "SECCOMP_FILTER": "the option seccomp",
    "NF_TABLES": "firewalls inside",
    "IP_NF_IPTABLES": "firewalls inside",
    "BRIDGE": "docker inside",
    "VETH": "docker inside",
    "BINFMT_MISC": "foreign programs",
    "IO_URING": "databases",
    "FANOTIFY": "watching",
    "USERFAULTFD": "emulators",
    "UNIX98_PTYS": "terminals",
    "HIGH_RES_TIMERS": "sleeps shorter than a tick",
    "KVM_GUEST": "its clock",
    "RTC_DRV_CMOS": "the time at boot",
    "ACPI_BUTTON": "the power button",
    "STRICT_KERNEL_RWX": "hardening",
    "STACKPROTECTOR_STRONG": "hardening",
}


@pytest.fixture
def packaged(monkeypatch):
    monkeypatch.delenv("PROPOLIS_KERNEL", raising=False)
    spec = importlib.util.find_spec("propolis_kernel")
    if spec is None:
        pytest.skip("propolis-kernel is not installed (make kernel)")
    return Path(spec.origin).parent / X86


def test_everything_that_guests_need_is_built_in(packaged):
    (path,) = packaged.glob("config-*")
    config = features.parse_config(path.read_text())
    assert {name: why for name, why in REQUIRED.items() if config.get(name) != "y"} == {}
    assert "m" not in config.values()
    assert "MODULES" not in config


def test_it_says_where_it_comes_from(packaged):
    source = json.loads((packaged / "SOURCE.json").read_text())
    assert source["package"] == "linux-source-6.1"
    assert source["version"]
    assert (packaged / f"vmlinuz-{source['release']}").is_file()


def test_the_package_has_the_version_of_its_source(packaged):
    source = json.loads((packaged / "SOURCE.json").read_text())
    assert importlib.metadata.version("propolis-kernel") == source["version"].partition("-")[0]
    assert importlib.metadata.metadata("propolis-kernel")["License-Expression"] == "GPL-2.0-only"


def test_it_is_found_first_and_passed_over_on_request(packaged, tmp_path, monkeypatch):
    found = kernel.find_kernel(tmp_path, X86)
    assert (found.source, found.module_names, found.abilities) == (Source.TUNED, (), set(features.Ability))
    assert "propolis-kernel" in kernel.foreseen(tmp_path, X86)
    monkeypatch.setenv("PROPOLIS_KERNEL", "distribution")
    assert "propolis-kernel" not in kernel.foreseen(tmp_path, X86)


def test_a_package_without_a_kernel_for_this_architecture_is_none(monkeypatch, tmp_path):
    package = tmp_path / "propolis_kernel"
    (package / "x86_64").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("PROPOLIS_KERNEL", raising=False)
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "propolis_kernel", raising=False)
    assert kernel._tuned(X86) is None
    (package / "x86_64" / "vmlinuz-6.1-x").write_bytes(b"no kernel")
    with pytest.raises(KernelUnsuitable):
        kernel.find_kernel(tmp_path / "cache", X86)
