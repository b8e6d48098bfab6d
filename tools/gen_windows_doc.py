"""Writes the table of Hyper-V's answers into docs/windows.md from `hypervisor/hyperv/hresult.py`.

`--check` only says whether it is fresh.
"""

import sys
from pathlib import Path

from propolis.hypervisor.hyperv import hresult

TARGET = Path(__file__).resolve().parents[1] / "docs" / "windows.md"
BEGIN = "<!-- written by tools/gen_windows_doc.py: begin -->\n"
END = "<!-- end -->\n"
_WINSOCK = range(10000, 12000)


def table() -> str:
    """All codes, with what a user sees."""
    lines = ["| code | name | what propolis says | what to do |", "|---|---|---|---|"]
    for meaning in hresult.meanings():
        low = meaning.code & 0xFFFF
        winsock = meaning.code >> 16 == 0x8007 and low in _WINSOCK
        code = f"{low}" if winsock else f"0x{meaning.code:08X}"
        lines.append(f"| {code} | {meaning.name} | {meaning.cause} | {meaning.cure.replace('|', '&#124;')} |")
    return "\n".join(lines) + "\n"


def written(document: str) -> str:
    """The document with a fresh table."""
    head, _, rest = document.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


def main(arguments: list[str]) -> int:
    """Write the file, or check it."""
    old = TARGET.read_text(encoding="utf-8")
    new = written(old)
    if arguments == ["--check"]:
        if old != new:
            print(f"{TARGET} is stale: run tools/gen_windows_doc.py", file=sys.stderr)
        return int(old != new)
    TARGET.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
