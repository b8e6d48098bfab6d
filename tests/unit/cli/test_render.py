import io
from types import SimpleNamespace

import pytest

from propolis.cli import render


@pytest.fixture
def said(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(render, "sys", SimpleNamespace(stderr=file))
    return file.getvalue


def test_an_error_is_a_line_and_a_hint_that_steer_no_terminal(said):
    render.show_error("cannot\nread \x1b[2J", "look\there")
    assert said() == "propolis: cannot read ?[2J\n  hint: look here\n"


def test_errors_can_be_shown_by_somebody_else(said):
    heard = []
    render.present_errors(lambda *told: heard.append(told))
    try:
        render.show_error("no", "yes", kind="ImageNotFound", exit_code=125, usage="Usage: ...")
    finally:
        render.present_errors(None)
    assert heard == [("no", "yes", "ImageNotFound", 125)]
    assert said() == ""
