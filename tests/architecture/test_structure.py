"""What the design promises about the tree itself: sizes, names, docstrings, and who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "propolis"
MODULES = sorted(PACKAGE.rglob("*.py"))
HARD_LIMIT = 600
REFUSED_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "misc", "types", "platform", "constants"}


def test_imports_point_down():
    lint_imports = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("folder", ["src", "tests", "tools", "bench", "guest"])
def test_no_hand_written_file_is_longer_than_the_limit(folder):
    sources = [path for pattern in ("*.py", "*.c", "*.h") for path in (ROOT / folder).rglob(pattern)]
    too_long = {str(path.relative_to(ROOT)): count for path in sources if (count := _lines(path)) > HARD_LIMIT}
    assert not too_long


def _lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_module_has_a_name_that_says_nothing():
    assert not [path for path in MODULES if path.stem in REFUSED_NAMES or path.parent.name in REFUSED_NAMES]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_functions_are_short():
    lengths = sorted(
        (node.end_lineno - node.lineno + 1, f"{path.relative_to(PACKAGE)}:{node.name}")
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    ninety_fifth = lengths[int(len(lengths) * 0.95)]
    assert ninety_fifth[0] <= 50, lengths[-20:]


def test_only_the_command_line_prints():
    printing = [
        str(path.relative_to(PACKAGE))
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert {name.split("/")[0] for name in printing} <= {"cli"}


def test_every_unit_test_mirrors_a_module():
    """`tests/unit/image/test_store.py` tests `propolis/image/store.py`, so a reader finds one from the other."""
    strays = []
    for test in (ROOT / "tests" / "unit").rglob("test_*.py"):
        relative = test.relative_to(ROOT / "tests" / "unit")
        stem = relative.stem.removeprefix("test_")
        target = PACKAGE / relative.parent / stem
        if not (target.with_suffix(".py").exists() or target.is_dir() or target.with_name(f"_{stem}.py").exists()):
            strays.append(str(relative))
    assert not strays
