import json
import subprocess
import sys
from pathlib import Path

from propolis.agent import wire

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


def test_header_is_twelve_bytes_in_little_endian():
    assert (
        wire.pack(wire.FrameType.STDIN, 0x01020304, b"abc", wire.Flag.MORE).hex() == "03000000"
        "03"
        "01"
        "0000"
        "04030201" + b"abc".hex()
    )
