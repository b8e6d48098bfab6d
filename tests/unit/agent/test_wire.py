import json
import subprocess
import sys
from pathlib import Path

from propolis.agent import wire
from propolis.hypervisor.hyperv import channel, document
from propolis.hypervisor.qemu import argv

ROOT = Path(__file__).resolve().parents[3]


def test_generated_header_and_schema_are_fresh():
    result = subprocess.run(
        [sys.executable, ROOT / "tools/gen_wire_h.py", "--check"], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_schema_names_every_frame_and_its_number():
    schema = json.loads((ROOT / "src/propolis/agent/schema/gen-1.json").read_text())
    assert {name: entry["number"] for name, entry in schema["frames"].items()} == {
        kind.name: kind.value for kind in wire.FrameType
    }
    assert set(wire.PAYLOADS) == set(wire.FrameType)


def test_the_guest_looks_for_its_port_where_qemu_has_it():
    assert argv.AGENT_PORT == wire.PORT_NAME


def test_the_guest_looks_for_its_devices_where_hyperv_has_them():
    assert (document.CONTROLLERS, document.LUNS) == (wire.SCSI_CONTROLLERS, wire.SCSI_LUNS)
    assert (document.SHARE_PORT, channel.AGENT_PORT) == (wire.SHARE_PORT, wire.VSOCK_PORT)


def test_header_is_twelve_bytes_in_little_endian():
    assert (
        wire.pack(wire.FrameType.STDIN, 0x01020304, b"abc", wire.Flag.MORE).hex() == "03000000"
        "03"
        "01"
        "0000"
        "04030201" + b"abc".hex()
    )
