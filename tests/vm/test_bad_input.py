"""Whatever a user gets wrong: one message that says what failed, one hint at most, docker's exit code, nothing left.

Through the real command line. Most of these never get as far as a machine.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from propolis.host.directories import cache_directory
from propolis.spec import Architecture
from propolis.testing.images import File, write_blob, write_layout


def tree():
    """A layer that no cache knows yet."""
    return {"bin/hello": File(content=os.urandom(100), mode=0o755)}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory, busybox_image, data_directory):
    """A cache of our own, so that it can be searched for what was left; the kernel is the user's."""
    ours = tmp_path_factory.mktemp("cache")
    theirs = cache_directory()
    (theirs / "kernels").mkdir(parents=True, exist_ok=True)
    (ours / "kernels").symlink_to(theirs / "kernels")
    before = os.environ.get("PROPOLIS_CACHE")
    os.environ["PROPOLIS_CACHE"] = str(ours)
    yield ours
    if before is None:
        del os.environ["PROPOLIS_CACHE"]
    else:
        os.environ["PROPOLIS_CACHE"] = before


@pytest.fixture
def refused(cli, cache, data_directory):
    """Run a command line that must fail, and check all that is promised of every failure; returns what it said."""

    def run(*arguments, code=125, env=None, usage=False):
        done = cli("run", *arguments, env=os.environ | (env or {}))
        said = done.stderr.decode()
        lines = said.splitlines()
        if usage and len(lines) > 2:
            assert lines.pop(0).startswith("Usage: propolis run ")
        assert done.returncode == code, said
        assert done.stdout == b""
        assert [line.startswith("propolis: ") for line in lines] == [True, False][: len(lines)], said
        assert all(line.startswith("  hint: ") for line in lines[1:]), said
        assert "Traceback" not in said
        assert "internal error" not in said
        assert said.isprintable() or set(said) <= {"\n", *filter(str.isprintable, said)}
        assert not left_behind(cache, data_directory)
        return said

    return run


def left_behind(cache, data):
    """Half-written files, machine directories and processes."""
    staged = [path for path in cache.rglob("*") if path.name.startswith(".staged-")]
    machines = list((data / "machines").glob("*"))
    processes = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(data).encode() in path.read_bytes():
                processes.append(path)
        except OSError:
            continue
    return [*staged, *machines, *processes]


# --- not an image


def empty_directory(place):
    place.mkdir()


def text(place):
    place.write_text("FROM debian\n")


def random_bytes(place):
    place.write_bytes(os.urandom(100_000))


def empty_file(place):
    place.write_bytes(b"")


def a_tar_of_something_else(place):
    with tarfile.open(place, "w") as archive:
        archive.add(__file__, "test.py")


def half_a_tar(place):
    a_tar_of_something_else(place)
    os.truncate(place, 700)


def nothing(_place):
    pass


def a_layout_without_images(place):
    place.mkdir()
    (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (place / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')


def a_layout_of_nonsense(place):
    place.mkdir()
    (place / "oci-layout").write_text("\x1b[31m}{")
    (place / "index.json").write_text("\x00" * 100)


NOT_IMAGES = [
    empty_directory,
    text,
    random_bytes,
    empty_file,
    a_tar_of_something_else,
    half_a_tar,
    nothing,
    a_layout_without_images,
    a_layout_of_nonsense,
]


@pytest.mark.parametrize("make", NOT_IMAGES, ids=lambda make: make.__name__)
def test_what_is_no_image_is_called_so(refused, tmp_path, make):
    make(tmp_path / "thing")
    assert str(tmp_path / "thing") in refused(tmp_path / "thing")


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "127.0.0.1:1/alpine",
        "registry.invalid/library/alpine:3",
        "Alpine",
        "oci:",
        "oci:/nowhere:x",
        ":",
        "@sha256:",
    ],
)
def test_a_reference_that_leads_nowhere_says_what_one_looks_like(refused, reference):
    assert "hint" in refused(reference)


# --- a damaged image


def blob(layout, digest):
    return layout / "blobs" / "sha256" / digest.partition(":")[2]


def layer_of(layout, manifest):
    return json.loads(blob(layout, manifest).read_bytes())["layers"][0]["digest"]


def damaged_layer(layout, change):
    """Change the layer's bytes but keep all digests true, so that only what is inside is wrong."""
    manifest = write_layout(layout, [tree()])
    document = json.loads(blob(layout, manifest).read_bytes())
    document["layers"] = [change(layout, document["layers"][0])]
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"] = [
        write_blob(layout, json.dumps(document).encode(), index["manifests"][0]["mediaType"]) | {"annotations": {}}
    ]
    (layout / "index.json").write_text(json.dumps(index))


def missing_blob(layout):
    blob(layout, layer_of(layout, write_layout(layout, [tree()]))).unlink()


def missing_manifest(layout):
    blob(layout, write_layout(layout, [tree()])).unlink()


def wrong_digest(layout):
    path = blob(layout, layer_of(layout, write_layout(layout, [tree()])))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def wrong_manifest(layout):
    path = blob(layout, write_layout(layout, [tree()]))
    path.write_bytes(path.read_bytes().replace(b"2", b"3", 1))


def truncated_gzip(layout):
    damaged_layer(
        layout,
        lambda layout, layer: write_blob(layout, blob(layout, layer["digest"]).read_bytes()[:-20], layer["mediaType"]),
    )


def truncated_file(layout):
    path = blob(layout, layer_of(layout, write_layout(layout, [tree()])))
    os.truncate(path, path.stat().st_size // 2)


def unknown_media_type(layout):
    damaged_layer(layout, lambda _layout, layer: layer | {"mediaType": "application/vnd.example.layer.v1+lha"})


def wrong_diff_id(layout):
    other = "sha256:" + hashlib.sha256(b"another").hexdigest()
    manifest = write_layout(layout, [tree()])
    document = json.loads(blob(layout, manifest).read_bytes())
    config = json.loads(blob(layout, document["config"]["digest"]).read_bytes())
    config["rootfs"]["diff_ids"] = [other]
    config["config"] = {"Cmd": ["/bin/hello"]}
    document["config"] = write_blob(layout, json.dumps(config).encode(), document["config"]["mediaType"])
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"] = [write_blob(layout, json.dumps(document).encode(), index["manifests"][0]["mediaType"])]
    (layout / "index.json").write_text(json.dumps(index))


def wrong_architecture(layout):
    write_layout(layout, [tree()], architecture=Architecture.AARCH64)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (missing_blob, "there is no blobs/sha256/"),
        (missing_manifest, "there is no blobs/sha256/"),
        (wrong_digest, "layer"),
        (wrong_manifest, "not what its digest names"),
        (truncated_gzip, "layer"),
        (truncated_file, "layer"),
        (unknown_media_type, "application/vnd.example.layer.v1+lha"),
        (wrong_diff_id, "layer"),
        (wrong_architecture, "arm64"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_damaged_image_is_refused_and_the_part_is_named(refused, cache, tmp_path, make, words):
    make(tmp_path / "image")
    before = set(cache.glob("layers/*.raw"))
    assert words in refused(f"oci:{tmp_path / 'image'}", "/bin/hello")
    assert set(cache.glob("layers/*.raw")) == before


def test_an_image_with_nothing_to_run_says_how_to_say_it(refused, tmp_path):
    write_layout(tmp_path / "image", [tree()])
    said = refused(f"oci:{tmp_path / 'image'}")
    assert "no entrypoint and no command" in said
    assert "COMMAND" in said


def test_control_characters_of_an_image_do_not_steer_the_terminal(refused, tmp_path):
    write_layout(
        tmp_path / "image", [{"bin/\x1b]0;owned\x07\x1b[2J": File(), "bin/x": File()}, b"garbage\x1b[31m" * 99]
    )
    refused(f"oci:{tmp_path / 'image'}", "/bin/x")


# --- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--memory", "1"], "128MiB"),
        (["--memory", "10t"], "more memory than this host has"),
        (["--memory", "10TB"], "more memory than this host has"),
        (["--memory", "9" * 400], "not a size"),
        (["--memory", "lots"], "not a size"),
        (["--cpus", "0"], "1 to 64"),
        (["--cpus", "-1"], "1 to 64"),
        (["--cpus", "1.5"], "1 to 64"),
        (["--cpus", "nan"], "1 to 64"),
        (["--cpus", "inf"], "1 to 64"),
        (["--cpus", "1000"], "1 to 64"),
        (["--name", ""], "cannot be a name"),
        (["--name", "../up"], "cannot be a name"),
        (["--name", "\x1b[2J"], "cannot be a name"),
        (["--hostname", "under_score"], "cannot be a hostname"),
        (["--timeout", "nan"], "--timeout"),
        (["--timeout", "0"], "--timeout"),
        (["--timeout", "-3"], "--timeout"),
        (["--boot-timeout", "nan"], "boot time-out"),
        (["--backend", "xen"], "qemu"),
        (["--backend", ""], "qemu"),
        (["-w", "relative"], "absolute"),
        (["-e", "=value"], "environment variable"),
        (["--initrd", "/x"], "--kernel"),
        (["-it"], "not a terminal"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_an_option_out_of_bounds_is_named(refused, busybox_image, options, words):
    assert words in refused(*options, busybox_image, "true")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--frobnicate", "IMAGE"], "--frobnicate"), ([], "IMAGE"), (["--cpus", "two", "IMAGE"], "two"), (["-e"], "-e")],
)
def test_a_command_line_that_cannot_be_understood_shows_the_usage(refused, busybox_image, arguments, words):
    assert words in refused(*(busybox_image if part == "IMAGE" else part for part in arguments), usage=True)


# --- kernel, hypervisor, host


def a_kernel_without_overlayfs(place):
    """An ELF header is how a kernel begins; nothing else of one is here."""
    place.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(57) + b"Linux version 6.1.0 (nobody@nowhere)\0" + bytes(9000))


@pytest.mark.parametrize(
    "make",
    [text, random_bytes, empty_file, nothing, empty_directory, a_kernel_without_overlayfs],
    ids=lambda m: m.__name__,
)
def test_what_is_no_kernel_for_guests_is_named(refused, busybox_image, tmp_path, make):
    make(tmp_path / "vmlinuz")
    assert str(tmp_path / "vmlinuz") in refused("--kernel", tmp_path / "vmlinuz", busybox_image, "true")


def test_without_qemu_it_says_how_to_install_it(refused, busybox_image):
    assert "apt-get install qemu-system-x86" in refused(busybox_image, "true", env={"PATH": "/nonexistent"})


def test_a_qemu_that_does_not_work_is_quoted(refused, busybox_image, tmp_path):
    fake = tmp_path / "qemu-system-x86_64"
    fake.write_text("#!/bin/sh\necho 'out of luck' >&2\nexit 1\n")
    fake.chmod(0o755)
    said = refused("-q", busybox_image, "true", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert "out of luck" in said


@pytest.mark.parametrize("variable", ["PROPOLIS_CACHE", "PROPOLIS_DATA"])
def test_a_file_in_place_of_a_directory_is_named(refused, busybox_image, tmp_path, variable):
    (tmp_path / "file").write_text("in the way")
    assert f"{tmp_path}/file" in refused("-q", busybox_image, "true", env={variable: str(tmp_path / "file")})


def test_damaged_records_are_named(refused, busybox_image, tmp_path):
    (tmp_path / "state.db").write_bytes(b"no database" * 1000)
    assert "state.db" in refused("-q", busybox_image, "true", env={"PROPOLIS_DATA": str(tmp_path)})


@pytest.fixture
def tiny(tmp_path):
    """A file system of one MiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting needs root")
    place = tmp_path / "tiny"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"this host does not let a tmpfs be mounted: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("variable", ["PROPOLIS_CACHE", "PROPOLIS_DATA"])
def test_a_full_disk_is_said_and_nothing_half_written_stays(refused, busybox_image, cache, tiny, variable):
    if variable == "PROPOLIS_CACHE":
        (tiny / "kernels").symlink_to(cache / "kernels", target_is_directory=True)
    else:
        with contextlib.suppress(OSError):
            (tiny / "filler").write_bytes(bytes(2 << 20))
    said = refused("-q", busybox_image, "true", env={variable: str(tiny)})
    assert "space" in said
    assert str(tiny) in said
    assert not left_behind(tiny, tiny)


# --- in the machine


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("IMAGE", "no-such-program"), 127, "no-such-program"),
        (("IMAGE", "/etc/passwd"), 126, "/etc/passwd"),
        (("-u", "nosuch", "IMAGE", "true"), 125, "nosuch"),
    ],
)
def test_what_the_guest_refuses_has_dockers_code(refused, busybox_image, arguments, code, words):
    said = refused("-q", *(busybox_image if part == "IMAGE" else part for part in arguments), code=code)
    assert words in said
