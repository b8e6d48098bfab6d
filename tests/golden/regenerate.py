"""Write the golden files anew; read the difference before you commit it. Usage: python tests/golden/regenerate.py"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent
for folder in ("hypervisor/qemu", "hypervisor/hyperv", "preflight"):
    sys.path.insert(0, str(GOLDEN.parent / "unit" / folder))

import test_document  # noqa: E402
from test_argv import BINARY, FIRMWARE, config  # noqa: E402
from test_hyperv import HOSTS  # noqa: E402

from propolis.hypervisor.qemu.argv import KVM, TCG, Wiring, build  # noqa: E402
from propolis.preflight.hyperv import judge  # noqa: E402

for name, accelerator in (("tcg", TCG), ("kvm", KVM)):
    argv = build(BINARY, config(), accelerator, Wiring(qmp=7, agent=9), firmware=FIRMWARE)
    (GOLDEN / "qemu" / f"{name}.json").write_text(json.dumps(argv, indent=1) + "\n")

for name, facts in HOSTS.items():
    told = [asdict(check) for check in judge(facts)]
    (GOLDEN / "preflight" / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")

for name, built in test_document.cases():
    text = json.dumps(built, indent=1, ensure_ascii=False)
    (GOLDEN / "hyperv" / f"{name}.json").write_text(text + "\n", encoding="utf-8")
