import pytest

from propolis.cli import terminal


@pytest.mark.parametrize(
    ("ours", "told"),
    [
        ({}, {}),
        ({"TERM": "xterm"}, {"TERM": "xterm"}),
        ({"TERM": "screen-256color"}, {"TERM": "screen-256color"}),
        ({"TERM": "dumb"}, {"TERM": "dumb"}),
        ({"TERM": "xterm-kitty", "COLORTERM": "truecolor"}, {"TERM": "xterm-256color", "COLORTERM": "truecolor"}),
        ({"TERM": "alacritty", "COLORTERM": "odd"}, {"TERM": "xterm-256color"}),
        ({"TERM": "xterm\nA=b"}, {"TERM": "xterm-256color"}),
    ],
)
def test_a_process_is_told_a_terminal_that_its_image_knows(ours, told):
    assert terminal.environment(ours) == told


@pytest.mark.parametrize(
    ("printed", "alternate"),
    [
        ([b"text"], False),
        ([b"\x1b[?1049h\x1b[22;0;0t"], True),
        ([b"\x1b[?1049h", b"text", b"\x1b[?1049l"], False),
        ([b"\x1b[?1049l\x1b[?47h"], True),
    ],
)
def test_who_leaves_a_full_screen_program_gets_the_usual_screen(printed, alternate):
    screen = terminal.Screen()
    for data in printed:
        screen.follow(data)
    assert screen.left().startswith(b"\x1b[?1049l") == alternate
    assert screen.left().endswith(b"\r\n")
