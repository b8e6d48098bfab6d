import json
import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from propolis import spec

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
bytes_text = st.binary(max_size=30).map(lambda data: os.fsdecode(data.replace(b"\0", b"")))
processes = st.builds(
    spec.Process,
    argv=st.lists(text | bytes_text, max_size=5).map(lambda rest: ("cmd", *rest)),
    env=st.lists(st.builds(lambda name, value: f"N{name}={value}", text, bytes_text), max_size=5).map(tuple),
    working_dir=text.map(lambda path: "/" + path),
    user=text,
    groups=st.lists(text, max_size=3).map(tuple),
    tty=st.booleans(),
    rows=st.integers(0, 65535),
    columns=st.integers(0, 65535),
)


@pytest.fixture(scope="session")
def dump(compiled):
    program = compiled("spec_dump", "spec.c", "json.c")

    def run(document, kind="exec"):
        result = subprocess.run([program, kind], input=document, stdout=subprocess.PIPE, check=True, timeout=10)
        return result.stdout

    return run


def expected(process, **more):
    fields = [f"cmd={word}" for word in process.argv] + [f"env={word}" for word in process.env]
    fields += [f"groups={word}" for word in process.groups]
    size = (process.rows, process.columns) if process.tty else (0, 0)
    values = {"hostname": "", "layers": -1, "credit": 0} | more
    fields += [f"working_dir={process.working_dir}", f"user={process.user}", f"hostname={values['hostname']}"]
    fields += [
        f"tty={int(process.tty)}",
        f"rows={size[0]}",
        f"columns={size[1]}",
        f"layers={values['layers']}",
        f"credit={values['credit']}",
    ]
    return os.fsencode("\0".join(fields))


@given(processes)
@settings(max_examples=150, deadline=None)
def test_what_python_writes_the_guest_reads(dump, process):
    assert dump(json.dumps(process.to_json() | {"credit": 77}).encode()) == expected(process, credit=77)


def test_the_machines_file_is_read(dump):
    config = spec.InitConfig(process=spec.Process(argv=("sh",)), hostname="box", layers=3)
    assert dump(json.dumps(config.to_json(), indent=2).encode(), "init") == expected(
        config.process, hostname="box", layers=3
    )


@pytest.mark.parametrize(
    ("document", "error"),
    [
        (b"", "object was expected"),
        (b"[]", "object was expected"),
        (b'{"cmd": ["a"]', "comma"),
        (b'{"cmd": ["a"]} x', "after the end"),
        (b'{"cmd": ["a",]}', "string was expected"),
        (b'{"cmd": []}', "no command"),
        (b'{"cmd": [""]}', "no command"),
        (b"{}", "no command"),
        (b'{"cmd": ["a"], "cmd": ["b"]}', "twice"),
        (b'{"cmd": [1]}', "string was expected"),
        (b'{"cmd": "a"}', "list was expected"),
        (b'{"cmd": ["a\\u0000"]}', "NUL"),
        (b'{"cmd": ["\\ud800"]}', "surrogate"),
        (b'{"cmd": ["\\ud800\\u0041"]}', "surrogate"),
        (b'{"cmd": ["\\udc00"]}', "surrogate"),
        (b'{"cmd": ["\\x"]}', "escape"),
        (b'{"cmd": ["\\u12"]}', "escape"),
        (b'{"cmd": ["\\', "escape"),
        (b'{"cmd": ["a\n"]}', "control character"),
        (b'{"cmd": ["a', "cut short"),
        (b'{"cmd": ["a"], "tty": 1}', "true or false"),
        (b'{"cmd": ["a"], "rows": 65536}', "out of range"),
        (b'{"cmd": ["a"], "rows": -1}', "out of range"),
        (b'{"cmd": ["a"], "rows": 1.5}', "whole number"),
        (b'{"cmd": ["a"], "rows": 01}', "whole number"),
        (b'{"cmd": ["a"], "rows": 99999999999999999999}', "out of range"),
        (b'{"cmd": ["a"], "env": ["X"]}', "NAME=value"),
        (b'{"cmd": ["a"], "env": ["=X"]}', "NAME=value"),
        (b'{"cmd": ["a"], "working_dir": "x"}', "absolute"),
        (b'{"cmd": ["a"], "surprise": 1}', "unknown key"),
        (b'{"cmd": ["a"], "' + b"k" * 100 + b'": 1}', "too long"),
        (b'{"cmd": ["a"], "hostname": "x"}', "unknown key"),
    ],
)
def test_bad_documents_are_named(dump, document, error):
    assert error in dump(document).decode()


@given(
    st.binary(max_size=100) | st.text('{}[]",:\\u0d8cfe19truefalse ', max_size=80).map(str.encode), st.integers(0, 80)
)
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_a_verdict(dump, noise, cut):
    good = b'{"cmd": ["a\\ud83d\\ude00"], "env": ["A=b"], "tty": true, "rows": 5}'
    dump(noise)
    dump(good[:cut] + noise + good[cut:])
