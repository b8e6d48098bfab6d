"""What is told to the owners of which Windows: each a file under review in tests/golden/preflight."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from propolis.preflight.checks import Verdict
from propolis.preflight.hyperv import COMPUTE_SERVICE, NETWORK_SERVICE, Facts, Service, judge

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "preflight"

PRO = Facts(
    build=22631,
    revision=4317,
    edition="Professional",
    product="Windows 10 Pro",
    machine="x86_64",
    library=True,
    services={COMPUTE_SERVICE: Service.STOPPED, NETWORK_SERVICE: Service.RUNNING},
    hypervisor=True,
    firmware_virtualization=False,
    second_level_translation=False,
    elevated=False,
    hyperv_administrator=True,
)
HOME = replace(PRO, edition="Core", product="Windows 10 Home", elevated=True, hyperv_administrator=False)
SERVER = replace(PRO, build=20348, revision=2700, edition="ServerStandard", product="Windows Server 2022 Standard")
BARE = {
    "library": False,
    "services": {COMPUTE_SERVICE: Service.ABSENT, NETWORK_SERVICE: Service.ABSENT},
    "hypervisor": False,
    "firmware_virtualization": True,
    "second_level_translation": True,
}
HOSTS = {
    "pro-ready": PRO,
    "home-ready": HOME,
    "server-ready": SERVER,
    "pro-fresh": replace(PRO, **BARE, hyperv_administrator=False),
    "home-fresh": replace(HOME, **BARE, elevated=False),
    "server-fresh": replace(SERVER, **BARE),
    "old-build": replace(PRO, build=17763, revision=6414),
    "old-server": replace(SERVER, build=17763, revision=6414, product="Windows Server 2019 Standard"),
    "no-virtualization": replace(PRO, hypervisor=False, second_level_translation=True),
    "old-processor": replace(PRO, hypervisor=False, firmware_virtualization=True),
    "hypervisor-not-started": replace(
        PRO, hypervisor=False, firmware_virtualization=True, second_level_translation=True
    ),
    "hypervisor-unknown": replace(PRO, hypervisor=None),
    "service-disabled": replace(PRO, services={COMPUTE_SERVICE: Service.DISABLED}),
    "service-missing": replace(PRO, services={COMPUTE_SERVICE: Service.ABSENT, NETWORK_SERVICE: Service.RUNNING}),
    "exports-missing": replace(PRO, missing_exports=("HcsGrantVmAccess", "HcsModifyComputeSystem")),
    "arm64": replace(PRO, machine="aarch64"),
}
READY = {"pro-ready", "home-ready", "server-ready", "hypervisor-unknown"}


@pytest.mark.parametrize("name", HOSTS)
def test_what_is_told_is_as_reviewed(name):
    told = [asdict(check) for check in judge(HOSTS[name])]
    assert told == json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_fails_when_something_is_missing_and_says_what_to_do(name):
    failed = [check for check in judge(HOSTS[name]) if check.verdict is Verdict.FAILURE]
    assert bool(failed) == (name not in READY)
    assert all(check.remedy for check in failed)


def test_the_remedy_fits_the_edition():
    home, server = (" ".join(check.remedy for check in judge(HOSTS[name])) for name in ("home-fresh", "server-fresh"))
    assert "VirtualMachinePlatform" in home
    assert "Install-WindowsFeature" in server
    assert "VirtualMachinePlatform" not in server
    assert "Add-LocalGroupMember" not in home, "Home need not have that group"
