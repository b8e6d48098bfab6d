from pathlib import Path

import pytest

from propolis.errors import InvalidArgument
from propolis.machine.options import machine_spec
from propolis.machine.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("512MiB", 512 << 20), ("512m", 512 << 20), ("2g", 2 << 30), ("0.5G", 512 << 20), ("1048576", 1 << 20), (7, 7)],
)
def test_sizes_have_dockers_units(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "12 parsecs", "-1g", "1e9", "0x10", "1..5g"])
def test_what_is_not_a_size_is_refused(text):
    with pytest.raises(InvalidArgument, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"memory": "1"}, "too little memory"),
        ({"memory": "10t"}, "more memory than this host"),
        ({"cpus": 0}, "0 CPUs"),
        ({"cpus": 0.5}, "0.5 CPUs"),
        ({"cpus": 1000}, "1000 CPUs"),
        ({"name": "-x"}, "cannot be a name"),
        ({"name": "a b"}, "cannot be a name"),
        ({"hostname": "under_score"}, "cannot be a hostname"),
        ({"working_dir": "relative"}, "not an absolute path"),
        ({"env": {"A=B": "1"}}, "environment variable"),
        ({"env": {"A": "\0"}}, "NUL"),
        ({"command": ["a\0"]}, "NUL"),
        ({"command": "ls -l"}, "one string"),
        ({"initrd": "x"}, "needs the kernel"),
        ({"workdir": "/x"}, "no option 'workdir'"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(InvalidArgument, match=words):
        machine_spec("oci:x", **arguments)


def test_defaults_leave_the_choice_to_the_image():
    spec = machine_spec("oci:x", [])
    assert (spec.command, spec.entrypoint, spec.user, spec.cpus, spec.memory) == (None, None, None, 1, 512 << 20)


def test_an_entrypoint_may_be_a_string_a_list_or_nothing():
    assert machine_spec("oci:x", entrypoint="sh").entrypoint == ("sh",)
    assert machine_spec("oci:x", entrypoint=["sh", "-c"]).entrypoint == ("sh", "-c")
    assert machine_spec("oci:x", entrypoint="").entrypoint == ()


def test_paths_become_paths():
    assert machine_spec("oci:x", kernel="/k", initrd="/i").kernel == Path("/k")


def test_a_machine_runs_an_image_or_a_rootfs():
    spec = machine_spec(None, rootfs=Path("a"), platform="linux/arm64")
    assert (spec.image, spec.rootfs, spec.platform) == ("a", True, "linux/arm64")
    assert machine_spec("a").rootfs is False
    for image, options in (("a", {"rootfs": "b"}), (None, {})):
        with pytest.raises(InvalidArgument, match="either an image or a rootfs"):
            machine_spec(image, **options)
    with pytest.raises(InvalidArgument, match="is no platform"):
        machine_spec("a", platform="a b")
