from pathlib import Path

import pytest

from propolis.errors import InvalidArgument
from propolis.image.daemon import address as module
from propolis.image.daemon.address import Address, Kind, addresses, has_socket


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """No engine but those of the test."""
    for name in ("DOCKER_HOST", "CONTAINER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(module, "_SYSTEM_SOCKETS", ())
    monkeypatch.setattr(module, "_SYSTEM_PODMAN", ())
    monkeypatch.setattr(module, "_PIPES", ())


@pytest.mark.parametrize(
    ("text", "kind", "path", "port"),
    [
        ("unix:///a/b.sock", Kind.UNIX, "/a/b.sock", 0),
        ("npipe:////./pipe/docker_engine", Kind.PIPE, "//./pipe/docker_engine", 0),
        ("tcp://host", Kind.TCP, "host", 2375),
        ("tcp://host:1", Kind.TCP, "host", 1),
        ("tcp://[::1]:1", Kind.TCP, "::1", 1),
    ],
)
def test_the_environment_says_where(monkeypatch, text, kind, path, port):
    monkeypatch.setenv("DOCKER_HOST", text)
    (found,) = addresses()
    assert found == Address(kind=kind, path=path, port=port)
    assert str(found) == (text if port != 2375 else "tcp://host:2375")


def test_dockers_variable_comes_before_podmans(monkeypatch):
    monkeypatch.setenv("CONTAINER_HOST", "unix:///podman")
    assert addresses()[0].path == "/podman"
    monkeypatch.setenv("DOCKER_HOST", "unix:///docker")
    assert addresses()[0].path == "/docker"


@pytest.mark.parametrize("given", ["", "certs"])
def test_tls_is_told_by_the_environment(monkeypatch, tmp_path, given):
    monkeypatch.setenv("DOCKER_HOST", "tcp://host")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", given)
    (found,) = addresses()
    assert (found.port, found.certificates) == (2376, Path(given) if given else Path.home() / ".docker")


@pytest.mark.parametrize(
    "text",
    ["ssh://host", "unix://", "host:1", "tcp://", "tcp://a:x", "tcp://a:99999", "tcp://a/b", "fd://", "http://a"],
)
def test_what_cannot_be_asked_is_refused(monkeypatch, text):
    monkeypatch.setenv("DOCKER_HOST", text)
    with pytest.raises(InvalidArgument, match="DOCKER_HOST") as caught:
        addresses()
    assert caught.value.hint


def test_what_listens_is_found(tmp_path):
    import socket

    assert addresses() == ()
    assert not has_socket()
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("no unix sockets in this Python")
    (tmp_path / "podman").mkdir()
    (tmp_path / "docker.sock").write_text("no socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "podman/podman.sock"))
        assert [found.path for found in addresses()] == [str(tmp_path / "podman/podman.sock")]
        assert has_socket()
