import socket
import threading
import time

import pytest

from propolis.errors import InvalidArgument, RegistryError, RegistryUnreachable
from propolis.image.registry.address import parse_address
from propolis.image.registry.exchange import Exchange
from propolis.image.registry.retry import Transient
from propolis.testing.registry import Fault, FaultKind, Registry


@pytest.fixture
def exchange(patience):
    return Exchange("127.0.0.1", insecure=False, patience=patience)


def get(exchange, registry, path="/v2/", headers=None, limit=1 << 20):
    with exchange.send("GET", parse_address(f"http://{registry.address}{path}"), headers or {}) as answer:
        return answer.status, answer.body(limit)


def redirect(to, status=307, **options):
    return Fault(kind=FaultKind.STATUS, status=status, headers={"Location": to}, **options)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_credentials_follow_a_redirect_to_the_same_host_only(exchange, registry, status):
    with Registry() as other:
        registry.arm(redirect("/v2/?again", status), redirect(f"http://{other.address}/v2/", status))
        assert get(exchange, registry, headers={"Authorization": "Basic x", "Range": "bytes=0-"})[0] == 200
        assert [request.headers.get("authorization") for request in registry.requests] == ["Basic x", "Basic x"]
        assert "authorization" not in other.requests[0].headers
        assert other.requests[0].headers["range"] == "bytes=0-"
        other.arm(redirect(f"http://{registry.address}/v2/", status))
        registry.arm(redirect(f"http://{other.address}/v2/", status))
        get(exchange, registry, headers={"Authorization": "Basic x"})
        assert "authorization" not in registry.requests[-1].headers, "nor do they come back"


def test_users_in_redirects_are_nobody(exchange, registry):
    registry.arm(redirect(f"http://bob:pass@{registry.address}/v2/"))
    assert get(exchange, registry)[0] == 200
    assert "authorization" not in registry.requests[-1].headers


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "ftp://example.org/x",
        "javascript:alert(1)",
        "gopher://127.0.0.1:70/",
        "http://",
        "http://[::1",
        "http:///x",
        "//",
        "http://a:99999/",
    ],
)
def test_redirects_to_elsewhere_are_refused(exchange, registry, target):
    registry.arm(redirect(target))
    with pytest.raises(RegistryError, match="is refused"):
        get(exchange, registry)


@pytest.mark.parametrize(
    ("base", "target", "is_fine"),
    [
        ("https://a.b/v2/", "https://c.d/x", True),
        ("https://a.b/v2/", "/x", True),
        ("https://a.b/v2/", "http://a.b/x", False),
        ("https://a.b/v2/", "https://127.0.0.1/x", False),
        ("https://a.b/v2/", "https://localhost:80/x", False),
        ("https://a.b/v2/", "https://169.254.169.254/latest", False),
        ("https://a.b/v2/", "https://[fe80::1]/x", False),
        ("https://a.b/v2/", "https://[::ffff:127.0.0.1]/x", False),
        ("https://a.b/v2/", "https://0.0.0.0/x", False),
        ("https://a.b/v2/", "https://127.1/x", False),
        ("https://a.b/v2/", "https://2130706433/x", False),
        ("https://a.b/v2/", "https://0xa9.0xfe.1/x", False),
        ("https://a.b/v2/", "https://169.254.169.254./x", False),
        ("https://a.b/v2/", "https://[fd00:ec2::254]/x", False),
        ("https://a.b/v2/", "https://100.100.100.200/x", False),
        ("https://a.b/v2/", "https://[::ffff:168.63.129.16]/x", False),
        ("https://a.b/v2/", "https://10.0.0.1/x", True),
        ("https://a.b/v2/", "https://[fd00::1]/x", True),
    ],
)
def test_where_a_registry_may_send_us(patience, base, target, is_fine):
    exchange = Exchange("a.b", insecure=False, patience=patience)
    if is_fine:
        assert exchange.target(parse_address(base), target).scheme == "https"
    else:
        with pytest.raises(RegistryError, match="is refused"):
            exchange.target(parse_address(base), target)


def test_an_insecure_registry_may_use_plain_http_but_never_after_tls(patience):
    exchange = Exchange("a.b", insecure=True, patience=patience)
    assert exchange.target(parse_address("http://a.b/"), "http://c.d/").scheme == "http"
    with pytest.raises(RegistryError):
        exchange.target(parse_address("https://a.b/"), "http://a.b/")


def test_redirects_in_a_circle_end(exchange, registry):
    registry.arm(redirect("/v2/", times=0))
    with pytest.raises(RegistryError, match="redirects more than"):
        get(exchange, registry)
    assert len(registry.requests) < 10


@pytest.fixture
def impatient(soon):
    return Exchange("127.0.0.1", insecure=False, patience=soon)


def test_answers_are_bounded_in_size_and_time(exchange, impatient, registry):
    registry.arm(Fault(kind=FaultKind.ENDLESS))
    with pytest.raises(RegistryError, match="more than the 64 KiB"):
        get(exchange, registry, limit=64 << 10)
    registry.put("app", "slow", b"x" * 1000, "text/plain")
    registry.arm(Fault(kind=FaultKind.DRIP))
    with pytest.raises(Transient, match="did not end its answer within 1 s"):
        get(impatient, registry, "/v2/app/manifests/slow")
    registry.arm(Fault(kind=FaultKind.STALL))
    with pytest.raises(Transient, match="went silent"):
        get(impatient, registry)


def test_lines_between_chunks_that_trickle_in_are_not_waited_for_to_their_end(exchange, impatient, registry):
    registry.arm(Fault(kind=FaultKind.CHUNK, after=2))
    with pytest.raises(Transient, match="broke"):
        get(impatient, registry)
    assert get(exchange, registry)[0] == 200


def test_headers_that_trickle_in_are_not_waited_for_to_their_end(exchange, impatient, registry):
    registry.arm(Fault(kind=FaultKind.HEADERS))
    with pytest.raises(Transient, match="went silent"):
        get(impatient, registry)
    assert get(exchange, registry)[0] == 200
    until = time.monotonic() + 30
    while (
        waiting := [one for one in threading.enumerate() if one.name == "propolis-request"]
    ) and time.monotonic() < until:
        time.sleep(0.01)
    assert not waiting, "what nobody waits for has ended"


@pytest.mark.parametrize("kind", [FaultKind.CUT, FaultKind.DROP, FaultKind.LENGTH])
def test_broken_connections_may_be_tried_again(exchange, registry, kind):
    registry.arm(Fault(kind=kind, after=1))
    with pytest.raises(Transient, match=r"the connection to .* broke"):
        get(exchange, registry)
    assert get(exchange, registry)[0] == 200


def test_what_is_no_http_does_not_steer_the_terminal(exchange):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 \x1b]0;evil\x07\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        address = parse_address(f"http://127.0.0.1:{server.getsockname()[1]}/v2/")
        with pytest.raises(Transient, match="evil") as caught, exchange.send("GET", address, {}):
            pass
    assert str(caught.value).isprintable()


def test_no_connection_says_why(patience):
    exchange = Exchange("127.0.0.1:1", insecure=False, patience=patience)
    with pytest.raises(Transient) as caught, exchange.send("GET", parse_address("http://127.0.0.1:1/"), {}):
        pass
    assert isinstance(caught.value.error, RegistryUnreachable)
    said = str(caught.value)  # Windows puts its own number before the reason
    assert said.startswith("no connection to 127.0.0.1:1: ")
    assert said.endswith("Connection refused")


def test_a_server_without_tls_is_told_as_such(patience, registry):
    exchange = Exchange(registry.address, insecure=False, patience=patience)
    address = parse_address(f"https://{registry.address}/v2/")
    with (
        pytest.raises(RegistryUnreachable, match="does not speak TLS") as caught,
        exchange.send("GET", address, {}),
    ):
        pass
    assert f'location = "{registry.address}"' in caught.value.hint


def test_cookies_are_not_kept(exchange, registry):
    registry.arm(Fault(kind=FaultKind.STATUS, status=200, headers={"Set-Cookie": "a=b; Path=/"}))
    get(exchange, registry)
    get(exchange, registry)
    assert "cookie" not in registry.requests[-1].headers


@pytest.mark.parametrize("proxy", ["gopher://user:hunter2@x", "http://[", "http://x:99999999"])
def test_a_proxy_that_cannot_be_used_is_told_without_its_password(monkeypatch, patience, proxy):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(InvalidArgument, match="a proxy that cannot be used") as caught:
        Exchange("a.b", insecure=False, patience=patience)
    assert "hunter2" not in str(caught.value) + caught.value.hint


def test_certificates_that_cannot_be_read_are_named(home, monkeypatch, patience):
    (home / "broken.pem").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(home / "broken.pem"))
    with pytest.raises(InvalidArgument, match=r"broken\.pem holds no certificates"):
        Exchange("a.b", insecure=False, patience=patience)
