"""Draw the time-line of one boot, measured now, as docs/boot.svg.

Usage: timeline.py [IMAGE].

Two clocks: the host's, from the start of the call, and the guest's, laid over it where its agent's greeting came in.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import images

TARGET = Path(__file__).resolve().parent.parent / "docs" / "boot.svg"
_MEASURE = """
import time; begin = time.time() - time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)
import json, sys
import anyio
from propolis.progress import Silent
class Told(Silent):
    def __init__(self): self.steps, self.open = [], {}
    def begin(self, step, subject="", total=None): self.open[step] = time.time()
    def end(self, step, subject=""): self.steps.append((step, self.open.pop(step) - begin, time.time() - begin))
async def main():
    from propolis.machine.launch import launch
    from propolis.machine.options import machine_spec
    told = Told()
    imported = time.time() - begin
    async with launch(machine_spec(sys.argv[1], ["echo", "x"]), told) as launched:
        greeted = time.time() - begin
        process = await launched.agent.start(input=False)
        await process.stdout.receive()
        output = time.time() - begin
        await process.wait()
    steps = [("import propolis", 0, imported), *told.steps, ("start, first output", greeted, output)]
    print(json.dumps({"steps": steps, "stamps": launched.hello.stamps, "greeted": greeted}))
anyio.run(main)
"""
_SCALE, _LEFT, _ROW = 640, 230, 24
_GUEST = {"init": "guest: kernel", "disks": "guest: disks", "root": "guest: root", "ready": "guest: hardening, agent"}
_BOOT = "boot"
_NAMES = {_BOOT: "boot: QEMU until its agent greets"}


def main() -> int:
    """Measure the best of five and draw it."""
    image = sys.argv[1] if len(sys.argv) > 1 else images.busybox()
    runs = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", _MEASURE, image], check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
        time.sleep(0.2)
    best = min(runs, key=lambda run: run["steps"][-1][2])
    bars = [(_NAMES.get(name, name), start, end, "#4878a8") for name, start, end in best["steps"]]
    zero, at = best["greeted"] - best["stamps"]["ready"] / 1000, 0.0
    (boot,) = (start for name, start, _ in best["steps"] if name == _BOOT)
    bars.insert(-1, ("QEMU, firmware, clock's start", boot, zero, "#c98a2b"))
    for stamp, name in _GUEST.items():
        bars.insert(-1, (name, zero + at, zero + best["stamps"][stamp] / 1000, "#c98a2b"))
        at = best["stamps"][stamp] / 1000
    TARGET.write_text(_svg(bars), encoding="utf-8")
    print(f"{TARGET.name}: first output after {bars[-1][2]:.2f} s")
    return 0


def _svg(bars: list[tuple[str, float, float, str]]) -> str:
    total = bars[-1][2]
    height = _ROW * (len(bars) + 1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _SCALE + 90}" height="{height}">',
        "<style>text { font: 13px sans-serif }</style>",
        f'<rect width="100%" height="{height}" fill="white"/>',
    ]
    for tenth in range(int(total * 10) + 1):
        x = _LEFT + tenth / 10 / total * _SCALE
        lines.append(f'<line x1="{x:.0f}" y1="0" x2="{x:.0f}" y2="{height - 20}" stroke="#ddd"/>')
        lines.append(f'<text x="{x - 8:.0f}" y="{height - 6}" fill="#777">{tenth / 10:.1f}</text>')
    for row, (name, start, end, colour) in enumerate(bars):
        x, width = _LEFT + start / total * _SCALE, max((end - start) / total * _SCALE, 1)
        y = row * _ROW + 4
        lines.append(f'<text x="4" y="{y + 13}">{name}</text>')
        lines.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="16" fill="{colour}"/>')
        lines.append(f'<text x="{x + width + 5:.0f}" y="{y + 13}" fill="#555">{(end - start) * 1000:.0f} ms</text>')
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    sys.exit(main())
