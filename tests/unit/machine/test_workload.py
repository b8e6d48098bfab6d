import pytest

from propolis.errors import InvalidArgument
from propolis.image.manifest import Config, Platform
from propolis.machine.options import machine_spec
from propolis.machine.workload import exec_process, main_process, merged_env


def config(**changes):
    return Config(platform=Platform(os="linux", architecture="amd64"), **changes)


@pytest.mark.parametrize(
    ("image", "command", "entrypoint", "argv"),
    [
        ({"cmd": ("sh",)}, None, None, ("sh",)),
        ({"cmd": ("sh",)}, ["ls"], None, ("ls",)),
        ({"entrypoint": ("/e",), "cmd": ("a",)}, None, None, ("/e", "a")),
        ({"entrypoint": ("/e",), "cmd": ("a",)}, ["b"], None, ("/e", "b")),
        ({"entrypoint": ("/e",), "cmd": ("a",)}, None, "/x", ("/x",)),
        ({"entrypoint": ("/e",), "cmd": ("a",)}, ["b"], "/x", ("/x", "b")),
        ({"entrypoint": ("/e",), "cmd": ("a",)}, ["b"], "", ("b",)),
    ],
)
def test_entrypoint_and_command_combine_as_docker_does(image, command, entrypoint, argv):
    assert main_process(config(**image), machine_spec("x", command, entrypoint=entrypoint)).argv == argv


@pytest.mark.parametrize("entrypoint", [None, ""])
def test_nothing_to_run_is_an_error_that_says_so(entrypoint):
    with pytest.raises(InvalidArgument, match="no entrypoint and no command"):
        main_process(config(), machine_spec("x", entrypoint=entrypoint))


def test_a_root_file_system_never_says_what_to_run():
    with pytest.raises(InvalidArgument, match="root file system x does not say what to run") as caught:
        main_process(config(), machine_spec(None, rootfs="x"))
    assert caught.value.hint.endswith("propolis run --rootfs x COMMAND")
    assert main_process(config(), machine_spec(None, ["sh"], rootfs="x")).argv == ("sh",)


def test_env_is_merged_by_name_and_keeps_its_order():
    assert merged_env(("A=1", "B=2=3", "C="), {"B": "x", "D": "y"}) == ("A=1", "B=x", "C=", "D=y")


def test_the_callers_words_win_over_the_images():
    image = config(cmd=("sh",), working_dir="/srv", user="daemon")
    assert main_process(image, machine_spec("x")).working_dir == "/srv"
    assert main_process(image, machine_spec("x")).user == "daemon"
    process = main_process(image, machine_spec("x", working_dir="/tmp", user="0"))
    assert (process.working_dir, process.user) == ("/tmp", "0")


def test_an_option_that_exec_does_not_have_is_named():
    with pytest.raises(InvalidArgument, match="no option 'input_'"):
        exec_process(main_process(config(cmd=("sh",)), machine_spec("x")), ["ls"], input_=b"")
