"""Names are looked up by the test: what an attacker's DNS says cannot be had otherwise."""

import socket
import ssl
import threading
import time

import pytest

from propolis.errors import RegistryError, RegistryUnreachable
from propolis.image.registry.address import parse_address
from propolis.image.registry.exchange import Exchange
from propolis.image.registry.retry import Patience, Transient
from propolis.testing.registry import Fault, FaultKind, Registry


@pytest.fixture
def names(monkeypatch):
    """Addresses by name."""
    found = {"registry.test": "127.0.0.1", "elsewhere.test": "127.0.0.1", "sixth.test": "::1"}
    ask = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: ask(found.get(host, host), *rest, **more))
    return found


@pytest.fixture
def authority():
    return pytest.importorskip("trustme", reason="makes certificates; not among what the Windows tests have").CA()


@pytest.fixture
def proxies(authority):
    """What makes a proxy."""
    from registries import Proxy

    return Proxy


def get(exchange, url, **headers):
    with exchange.send("GET", parse_address(url), headers) as answer:
        return answer.status, answer.body(1 << 20)


@pytest.fixture
def accepted(monkeypatch):
    """How many connections were made."""
    made = []
    accept = socket.socket.accept
    monkeypatch.setattr(socket.socket, "accept", lambda server: made.append(1) or accept(server))
    return made


def test_a_name_that_leads_into_this_host_is_not_asked(names, registry, patience):
    port = registry.address.partition(":")[2]
    exchange = Exchange("registry.test", insecure=True, patience=patience)
    with pytest.raises(RegistryError, match=r"elsewhere\.test is 127\.0\.0\.1, an address of this host's own"):
        get(exchange, f"http://elsewhere.test:{port}/v2/")
    assert registry.requests == []


def test_nor_with_tls_nor_over_ipv6(names, authority, home, monkeypatch, patience):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("sixth.test").configure_cert(context)
    authority.cert_pem.write_to_path(str(home / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(home / "ca.pem"))
    with Registry(tls=context, host="::1") as registry:
        port = registry.address.rpartition(":")[2]
        with pytest.raises(RegistryError, match=r"sixth\.test is ::1"):
            get(Exchange("registry.test", insecure=False, patience=patience), f"https://sixth.test:{port}/v2/")
        assert registry.requests == []
        assert (
            get(Exchange("sixth.test", insecure=False, patience=patience), f"https://sixth.test:{port}/v2/")[0] == 200
        )


def test_a_registry_that_is_named_by_the_user_may_be_here_and_lead_here(names, registry, patience):
    port = registry.address.partition(":")[2]
    exchange = Exchange(f"Registry.test:{port}", insecure=True, patience=patience)
    assert get(exchange, f"http://registry.test:{port}/v2/")[0] == 200
    assert get(exchange, f"http://elsewhere.test:{port}/v2/")[0] == 200


def test_where_a_proxy_leads_is_its_own_matter(names, proxies, registry, monkeypatch, patience):
    port = registry.address.partition(":")[2]
    with proxies() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
        exchange = Exchange("registry.test", insecure=True, patience=patience)
        assert get(exchange, f"http://elsewhere.test:{port}/v2/")[0] == 200
        assert proxy.asked == [f"GET http://elsewhere.test:{port}/v2/"]


def test_a_proxy_that_is_not_there_or_refuses(proxies, monkeypatch, patience):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hunter2@127.0.0.1:1")
    with pytest.raises(Transient, match=r"no connection to the proxy on the way to a\.b: .*refused") as caught:
        get(Exchange("a.b", insecure=False, patience=patience), "https://a.b/v2/")
    assert "hunter2" not in str(caught.value)
    with proxies(login="bob:right") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://bob:hunter2@{proxy.address}")
        with pytest.raises(RegistryUnreachable, match=r"the proxy on the way to a\.b refuses: .*407") as caught:
            get(Exchange("a.b", insecure=False, patience=patience), "https://a.b/v2/")
        assert "hunter2" not in str(caught.value)


def test_a_proxy_may_speak_tls(authority, proxies, home, monkeypatch, patience):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "inner.test").configure_cert(context)
    authority.cert_pem.write_to_path(str(home / "ca.pem"))
    with proxies() as proxy, Registry(tls=context) as inner:
        proxy._server.socket = context.wrap_socket(proxy._server.socket, server_side=True)
        monkeypatch.setenv("HTTPS_PROXY", f"https://{proxy.address}")
        port = inner.address.partition(":")[2]
        with pytest.raises(RegistryUnreachable, match="proxy on the way to"):
            get(Exchange("inner.test", insecure=False, patience=patience), f"https://inner.test:{port}/v2/")
        monkeypatch.setenv("SSL_CERT_FILE", str(home / "ca.pem"))
        assert (
            get(Exchange("inner.test", insecure=False, patience=patience), f"https://inner.test:{port}/v2/")[0] == 200
        )


def test_connections_are_used_again_where_all_was_read(registry, patience, accepted):
    exchange = Exchange("127.0.0.1", insecure=False, patience=patience)
    for _ in range(3):
        assert get(exchange, f"http://{registry.address}/v2/")[0] == 200
        with exchange.send("HEAD", parse_address(f"http://{registry.address}/v2/"), {}) as answer:
            assert answer.status == 200
    assert len(accepted) == 1


def test_what_is_left_early_is_not_used_again(registry, patience, accepted):
    digest = registry.put_blob(bytes(20 << 20))
    exchange = Exchange("127.0.0.1", insecure=False, patience=patience)
    for _ in range(20):  # more than there may be
        with exchange.send("GET", parse_address(f"http://{registry.address}/v2/app/blobs/{digest}"), {}) as answer:
            assert 0 < len(next(answer.pieces())) <= 256 << 10
    assert len(accepted) == 20
    assert get(exchange, f"http://{registry.address}/v2/")[0] == 200


def test_a_drip_is_seen_as_it_comes(registry, patience):
    digest = registry.put_blob(bytes(1000))
    registry.arm(Fault(kind=FaultKind.DRIP, after=10))
    exchange = Exchange("127.0.0.1", insecure=False, patience=patience)
    with exchange.send("GET", parse_address(f"http://{registry.address}/v2/app/blobs/{digest}"), {}) as answer:
        pieces = answer.pieces()
        began = time.monotonic()
        assert sum(len(next(pieces)) for _ in range(4)) < 20
        assert time.monotonic() - began < 2


def test_only_so_many_at_once_and_nobody_waits_for_ever(registry):
    patience = Patience(connect=2, read=5, document=5, turn=0.2)
    exchange = Exchange("127.0.0.1", insecure=False, patience=patience)
    digest = registry.put_blob(bytes(20 << 20))
    address = parse_address(f"http://{registry.address}/v2/app/blobs/{digest}")
    leave, begun = threading.Event(), threading.Barrier(17)

    def hold():
        with exchange.send("GET", address, {}) as answer:
            next(answer.pieces())
            begun.wait()
            leave.wait()

    threads = [threading.Thread(target=hold) for _ in range(16)]
    for thread in threads:
        thread.start()
    begun.wait(20)
    with pytest.raises(Transient, match="all 16 connections"):
        get(exchange, f"http://{registry.address}/v2/")
    leave.set()
    for thread in threads:
        thread.join()
    assert get(exchange, f"http://{registry.address}/v2/")[0] == 200


def test_insecure_by_choice_warns_nobody(authority, patience):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.test").configure_cert(context)
    with Registry(tls=context) as registry:
        url = f"https://{registry.address}/v2/"
        with pytest.raises(RegistryUnreachable, match="cannot be trusted"):
            get(Exchange("127.0.0.1", insecure=False, patience=patience), url)
        # pytest makes errors of warnings
        assert get(Exchange("127.0.0.1", insecure=True, patience=patience), url)[0] == 200


def test_names_of_other_scripts_are_asked_as_dns_has_them(patience):
    exchange = Exchange("127.0.0.1", insecure=False, patience=patience)
    base = parse_address("http://127.0.0.1/")
    asked = "http://bücher.example/x y?ü".encode()
    assert str(exchange.target(base, asked.decode("latin-1"))).startswith("http://xn--bcher-kva.example/x y?")
