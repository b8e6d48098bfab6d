"""What documents, docstrings and comments refer to is there: other documents, pictures, sections, modules and tests."""

import re
from pathlib import Path

import pytest

from propolis.image.trust.policy import parse_policy

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BASES = [ROOT, ROOT / "src/propolis", ROOT / "tests", *(ROOT / "src/propolis").glob("*/")]


def anchor(heading):
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    for link in links:
        path, _, section = link.partition("#")
        target = document.parent / path if path else document
        assert target.is_file(), link
        if section:
            assert section in map(anchor, re.findall(r"(?m)^#+ (.*)$", target.read_text(encoding="utf-8"))), link


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path.stem != "decisions"], ids=lambda path: path.name
)
def test_files_that_are_named_are_there(document):
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_-]+\.(?:py|c|h|md|svg))`", document.read_text(encoding="utf-8")))
    assert not [name for name in sorted(named) if not any((base / name).is_file() for base in BASES)]


def test_documents_that_code_names_are_there():
    files = [
        path for folder in ("src", "tools", "tests", "guest", "bench") for path in (ROOT / folder).rglob("*.[pch]*")
    ]
    named = {
        (name, path.name)
        for path in files
        if path.suffix in (".py", ".c", ".h")
        for name in re.findall(r"docs/[a-z_-]+\.(?:md|svg)", path.read_text(encoding="utf-8", errors="replace"))
    }
    assert ("docs/images.md", "json_lines.py") in named
    assert not [item for item in sorted(named) if not (ROOT / item[0]).is_file()]


def test_the_policy_that_is_shown_can_be_used():
    (policy,) = re.findall(r"(?s)```json\n(.*?)```", (ROOT / "docs/images.md").read_text(encoding="utf-8"))
    parsed = parse_policy(policy.encode(), Path("policy.json"))
    assert len(parsed.requirements("docker", ["registry.example/team"])) == 1
