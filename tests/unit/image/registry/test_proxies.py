import pytest

from propolis.errors import InvalidArgument
from propolis.image.registry.address import parse_address
from propolis.image.registry.proxies import Proxies


def way(url):
    found = Proxies.of_environment().way_to(parse_address(url))
    return found and found.url


def test_without_a_word_there_is_none():
    assert way("https://a.b/") is None


def test_each_scheme_has_its_own(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:p%40ss@one:3128")
    monkeypatch.setenv("ALL_PROXY", "socks5h://[::1]")
    assert way("https://a.b/") == "http://one:3128"
    assert way("http://a.b/") == "socks5h://[::1]:1080"
    found = Proxies.of_environment().way_to(parse_address("https://a.b/"))
    assert found.login == ("user", "p@ss")
    assert "p@ss" not in repr(found)
    monkeypatch.setenv("https_proxy", "two")
    assert way("https://a.b/") == "http://two:80", "lower case counts first"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "x.localhost"])
def test_there_is_none_to_loopback(monkeypatch, host):
    monkeypatch.setenv("ALL_PROXY", "http://one:3128")
    assert way(f"http://{host}:5000/") is None


@pytest.mark.parametrize(
    ("exceptions", "url", "is_straight"),
    [
        ("*", "https://a.b/", True),
        ("a.b", "https://a.b/", True),
        ("A.B", "https://a.b./", True),
        ("x, a.b", "https://c.a.b/", True),
        ("a.b", "https://ca.b/", False),
        (".a.b", "https://c.a.b/", True),
        (".a.b", "https://a.b/", False),
        ("*.a.b", "https://c.a.b/", True),
        ("a.b:443", "https://a.b/", True),
        ("a.b:444", "https://a.b/", False),
        ("10.0.0.0/8", "https://10.1.2.3/", True),
        ("10.0.0.1/8", "https://10.1.2.3/", True),
        ("10.0.0.0/8", "https://11.1.2.3/", False),
        ("10.0.0.0/8", "https://a.b/", False),
        ("10.1.2.3", "https://10.1.2.3/", True),
        ("10.1.2.3:443", "https://10.1.2.3:5000/", False),
        ("10.1.2.0/24:5000", "https://10.1.2.3:5000/", True),
        ("fd00::/8", "https://[fd00::5]/", True),
        ("fd00::5", "https://[fd00::5]/", True),
        ("[fd00::5]:443", "https://[fd00::5]/", True),
        ("[fd00::5]:444", "https://[fd00::5]/", False),
        ("10.0.0.0/99 /8 . * .", "https://10.1.2.3/", True),
        ("10.0.0.0/99 /8 . : [", "https://10.1.2.3/", False),
    ],
)
def test_no_proxy(monkeypatch, exceptions, url, is_straight):
    monkeypatch.setenv("ALL_PROXY", "http://one:3128")
    monkeypatch.setenv("NO_PROXY", exceptions)
    assert (way(url) is None) is is_straight


@pytest.mark.parametrize("text", ["gopher://user:hunter2@x", "http://[", "http://x:99999999", "http://", "http://x:0"])
def test_what_cannot_be_used_is_told_without_its_password(monkeypatch, text):
    monkeypatch.setenv("HTTPS_PROXY", text)
    with pytest.raises(InvalidArgument, match="HTTPS_PROXY names a proxy that cannot be used") as caught:
        Proxies.of_environment()
    assert "hunter2" not in str(caught.value) + caught.value.hint
