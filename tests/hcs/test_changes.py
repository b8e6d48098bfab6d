"""HcsModifyComputeSystem: what may be added and removed, and that it shows in what follows."""

import pytest

from propolis.disk.writable import make_writable
from propolis.spec import DiskFormat

CONTROLLER = "df6d0690-79e5-55b6-a5ec-c1e2f77f580a"
DISK = f"VirtualMachine/Devices/Scsi/{CONTROLLER}/Attachments/3"
SHARES = "VirtualMachine/Devices/Plan9/Shares"
SERVICE = "VirtualMachine/Devices/HvSocket/HvSocketConfig/ServiceTable/00000400-facb-11e6-bd58-64006a7986d3"
SIZE = "VirtualMachine/ComputeTopology/Memory/SizeInMB"
INVALID_JSON, INVALID_PARAMETER, NOT_FOUND, EXISTS = 0x8037010D, 0x80070057, 0x80070490, 0x800700B7


def request(path, kind=None, settings=None):
    document = {"ResourcePath": path}
    if kind is not None:
        document["RequestType"] = kind
    if settings is not None:
        document["Settings"] = settings
    return document


def test_disks(core, system, tmp_path, vm_id):
    path = tmp_path / "disk.vhdx"
    make_writable(path, DiskFormat.VHDX, {})
    settings = {"Type": "VirtualDisk", "Path": str(path), "ReadOnly": True}
    assert core.start(system).code == 0
    assert core.modify(system, request(DISK, "Add", settings)).code == 0x80070005
    assert core.grant(vm_id, path) == 0
    assert core.modify(system, request(DISK, "Add", settings | {"LUN": 3})).code == INVALID_JSON
    assert core.modify(system, request(DISK, "Add", settings)).code == 0
    assert core.modify(system, request(DISK, "Add", settings)).code == EXISTS
    assert core.modify(system, request(DISK, "Remove")).code == 0
    assert core.modify(system, request(DISK, "Remove")).code == NOT_FOUND
    assert core.modify(system, request(DISK[:-1] + "64", "Add", settings)).code == INVALID_PARAMETER
    assert core.modify(system, request(DISK.replace("df6d", "0000"), "Add", settings)).code == NOT_FOUND


def test_a_share_is_opened_with_a_token_or_by_the_machines_own_account(core, system, tmp_path, vm_id):
    (tmp_path / "private").mkdir(mode=0o700)
    share = {"Name": "m0", "AccessName": "m0", "Path": str(tmp_path / "private"), "Port": 564, "Flags": 4}
    as_user = share | {"Flags": 0x14}
    assert core.modify(system, request(SHARES, "Add", share)).code == 0x80070005
    assert core.modify(system, request(SHARES, "Add", as_user)).code == INVALID_PARAMETER
    assert core.modify(system, request(SHARES, "Add", as_user), token=0x2A4).code == 0
    assert core.modify(system, request(SHARES, "Remove", share)).code == 0
    assert core.grant(vm_id, tmp_path / "private") == 0
    assert core.modify(system, request(SHARES, "Add", share)).code == 0


def test_shares(core, system, tmp_path):
    tmp_path.chmod(0o755)
    share = {"Name": "m0", "AccessName": "m0", "Path": str(tmp_path), "Port": 564, "Flags": 5}
    assert core.modify(system, request(SHARES, "Add", share | {"Path": "/none"})).code == 0x80070003
    assert core.modify(system, request(SHARES, "Add", share)).code == 0
    assert core.modify(system, request(SHARES, "Add", share)).code == EXISTS
    absent = {"Name": "m1", "AccessName": "m1", "Port": 564}
    assert core.modify(system, request(SHARES, "Remove", absent)).code == NOT_FOUND
    assert core.modify(system, request(SHARES, "Remove", absent | {"Name": "m0"})).code == 0
    assert core.modify(system, request(SHARES, "Add", share)).code == 0


def test_memory(core, system):
    assert core.modify(system, request(SIZE, "Update", 512)).code == 0x80370105
    assert core.start(system).code == 0
    assert core.modify(system, request(SIZE, "Update", 511)).code == INVALID_PARAMETER
    assert core.modify(system, request(SIZE, "Update", "512")).code == INVALID_JSON
    assert core.modify(system, request(SIZE, "Update", 512)).code == 0
    memory = core.properties(system, {"PropertyTypes": ["Memory"]}).document["Memory"]["VirtualMachineMemory"]
    assert memory["AvailableMemory"] == 512


def test_services(core, system):
    good = {"BindSecurityDescriptor": "D:P(A;;FA;;;SY)", "AllowWildcardBinds": False}
    assert core.modify(system, request(SERVICE, "Remove")).code == NOT_FOUND
    assert core.modify(system, request(SERVICE, "Update", {"BindSecurityDescriptor": "SY"})).code == INVALID_PARAMETER
    assert core.modify(system, request(SERVICE, "Update", good)).code == 0
    assert core.modify(system, request(SERVICE, "Remove")).code == 0


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, INVALID_JSON),
        ({"ResourcePath": 7}, INVALID_JSON),
        ({"ResourcePath": SHARES, "RequestType": "Put"}, INVALID_JSON),
        ({"ResourcePath": SHARES, "RequestType": "Add"}, INVALID_JSON),
        ({"ResourcePath": "VirtualMachine/Devices/VirtioFs", "RequestType": "Add"}, INVALID_PARAMETER),
        ({"ResourcePath": SHARES, "RequestType": "Add", "GuestRequest": {}}, 0x80370105),
    ],
)
def test_requests_that_make_no_sense(core, system, change, code):
    assert core.modify(system, change).code == code
