import pytest

from propolis.errors import InvalidArgument
from propolis.image.registry.files import certificate_directories, read_configuration
from propolis.image.registry.name import parse_name


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def place(name):
    return str(read_configuration().origins(parse_name(name))[0])


def rule(location):
    return f'[[registry]]\nprefix = "a.b"\nlocation = "{location}"\n'


def test_the_users_file_then_additions_then_ours(home, monkeypatch):
    monkeypatch.delenv("CONTAINERS_REGISTRIES_CONF")
    write(home / ".config/containers/registries.conf", rule("user.example"))
    assert place("a.b/x") == "user.example/x"
    write(home / ".config/containers/registries.conf.d/2.conf", rule("second.example"))
    write(home / ".config/containers/registries.conf.d/1.conf", rule("first.example"))
    assert place("a.b/x") == "second.example/x"
    write(home / "propolis/registries.conf", rule("own.example"))
    assert place("a.b/x") == "own.example/x"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "elsewhere"))
    (home / "propolis/registries.conf").unlink()
    assert place("a.b/x") == "a.b/x"


def test_a_chosen_file_takes_the_place_of_the_others(home, monkeypatch):
    write(home / ".config/containers/registries.conf", rule("user.example"))
    write(home / "chosen.conf", rule("chosen.example"))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(home / "chosen.conf"))
    assert place("a.b/x") == "chosen.example/x"


def test_a_file_that_cannot_be_read_is_named(home):
    (home / "propolis/registries.conf").mkdir(parents=True)
    with pytest.raises(InvalidArgument, match=r"cannot read .*registries\.conf"):
        read_configuration()


def test_certificates_of_one_registry(home):
    directory = home / ".config/containers/certs.d/a.b:5000"
    directory.mkdir(parents=True)
    assert certificate_directories("a.b:5000") == [directory]
    assert certificate_directories("a.b") == []
