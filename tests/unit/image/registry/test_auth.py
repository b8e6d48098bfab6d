import threading
from urllib.parse import parse_qsl, urlsplit

import pytest

from propolis.errors import AccessDenied, RegistryError
from propolis.image.registry.address import parse_address
from propolis.image.registry.auth import Authenticator
from propolis.image.registry.challenge import parse_challenges
from propolis.image.registry.credentials import Credentials
from propolis.image.registry.exchange import Exchange
from propolis.testing.registry import Fault, FaultKind, Registry

BOB = Credentials(username="bob", password="hunter2")
SCOPE = "repository:app:pull"


@pytest.fixture
def tokens():
    with Registry(authentication="token", users={"bob": "hunter2"}) as registry:
        yield registry


def authenticator(patience, find=lambda: BOB, **options):
    return Authenticator(Exchange("127.0.0.1", insecure=False, patience=patience), find, **options)


def challenge(registry, realm=None):
    return parse_challenges(
        [f'Bearer realm="{realm or f"http://{registry.address}/token"}",service="s",scope="{SCOPE}"']
    )


def base(registry):
    return parse_address(f"http://{registry.address}/v2/")


def test_a_token_is_fetched_once_and_renewed_before_it_expires(tokens, patience):
    now = [0.0]
    auth = authenticator(patience, clock=lambda: now[0])
    assert auth.header(SCOPE) == ""
    first = auth.answer(base(tokens), challenge(tokens), SCOPE, "")
    assert first.startswith("Bearer ")
    assert auth.header(SCOPE) == first
    assert auth.header("repository:other:pull") == ""
    assert auth.answer(base(tokens), challenge(tokens), SCOPE, "") == first, "somebody else has fetched it"
    now[0] = 289
    assert auth.header(SCOPE) == first
    now[0] = 291
    assert auth.header(SCOPE) == ""
    assert auth.answer(base(tokens), challenge(tokens), SCOPE, "") != first
    assert tokens.count("GET /token") == 2
    query = parse_qsl(urlsplit(tokens.requests[0].path).query)
    assert dict(query) == {"service": "s", "scope": SCOPE, "account": "bob"}


def test_many_threads_fetch_one_token(tokens, patience):
    auth = authenticator(patience)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(auth.answer(base(tokens), challenge(tokens), SCOPE, "")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert tokens.count("/token") == 1


def test_a_refused_token_is_replaced(tokens, patience):
    auth = authenticator(patience)
    first = auth.answer(base(tokens), challenge(tokens), SCOPE, "")
    assert auth.answer(base(tokens), challenge(tokens), SCOPE, first) not in ("", first)


def test_an_identity_token_is_exchanged(tokens, patience):
    tokens.refresh_tokens.add("refresh-me")
    auth = authenticator(patience, lambda: Credentials(identity_token="refresh-me"))
    assert auth.answer(base(tokens), challenge(tokens), SCOPE, "").startswith("Bearer ")
    assert tokens.count("POST /token") == 1


def test_wrong_credentials_are_told_without_them(tokens, patience):
    auth = authenticator(patience, lambda: Credentials(username="bob", password="wrong-secret"))
    with pytest.raises(AccessDenied, match="answers 401: incorrect username or password") as caught:
        auth.answer(base(tokens), challenge(tokens), SCOPE, "")
    assert "wrong-secret" not in str(caught.value) + caught.value.hint
    tokens.arm(Fault(kind=FaultKind.STATUS, status=403, body=b'{"message": "you sent wrong-secret"}'))
    with pytest.raises(AccessDenied, match=r"you sent \*\*\*"):
        auth.answer(base(tokens), challenge(tokens), SCOPE, "")


def test_basic_is_for_who_has_a_password(tokens, patience):
    offered = parse_challenges(['Basic realm="x"'])
    assert authenticator(patience).answer(base(tokens), offered, SCOPE, "") == BOB.basic
    assert authenticator(patience).answer(base(tokens), offered, SCOPE, BOB.basic) == ""
    assert authenticator(patience, lambda: None).answer(base(tokens), offered, SCOPE, "") == ""
    assert authenticator(patience).answer(base(tokens), parse_challenges(["Negotiate"]), SCOPE, "") == ""


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(kind=FaultKind.STATUS, status=200, body=b"{}"), "no token"),
        (Fault(kind=FaultKind.STATUS, status=200, body=b"[]"), "no token"),
        (Fault(kind=FaultKind.STATUS, status=200, body=b"<html>"), "no token"),
        (Fault(kind=FaultKind.STATUS, status=200, body=b'{"token": 7}'), "no token"),
        (Fault(kind=FaultKind.STATUS, status=200, body=b'{"token": "a\\r\\nX: y"}'), "no token"),
        (Fault(kind=FaultKind.STATUS, status=200, body=b'{"token": "\\u00e4"}'), "no token"),
        (Fault(kind=FaultKind.STATUS, status=200, body=b"[" * 100_000), "no token"),
        (Fault(kind=FaultKind.ENDLESS), "more than the 1024 KiB"),
        (
            Fault(kind=FaultKind.STATUS, status=307, headers={"Location": "file:///etc/passwd"}),
            "'file', which is refused",
        ),
        (Fault(kind=FaultKind.STATUS, status=500, times=0), "answers 500"),
        (Fault(kind=FaultKind.STATUS, status=429, times=0, headers={"Retry-After": "3600"}), "answers 429"),
        (Fault(kind=FaultKind.DROP, times=0), "broke"),
        (Fault(kind=FaultKind.STALL, times=0), "silent"),
    ],
)
def test_a_token_server_that_is_broken(tokens, patience, soon, fault, words):
    tokens.arm(fault)
    with pytest.raises(RegistryError, match=words):
        authenticator(soon if words == "silent" else patience).answer(base(tokens), challenge(tokens), SCOPE, "")


@pytest.mark.parametrize("lifetime", [b"-1", b"0", b"true", b'"x"', b"1e400", b"null", b"NaN", b"1"])
def test_lifetimes_that_make_no_sense_are_a_minute(tokens, patience, lifetime):
    tokens.arm(Fault(kind=FaultKind.STATUS, status=200, body=b'{"access_token": "t", "expires_in": ' + lifetime + b"}"))
    now = [0.0]
    auth = authenticator(patience, clock=lambda: now[0])
    assert auth.answer(base(tokens), challenge(tokens), SCOPE, "") == "Bearer t"
    now[0] = 45
    assert auth.header(SCOPE) == "Bearer t"
    now[0] = 1 << 30
    assert auth.header(SCOPE) == ""


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "ftp://x/", "nonsense:", "http://"])
def test_realms_that_lead_elsewhere_are_refused(tokens, patience, realm):
    with pytest.raises(RegistryError, match="is refused"):
        authenticator(patience).answer(base(tokens), challenge(tokens, realm), SCOPE, "")


def test_a_secure_registry_has_no_realm_on_plain_http_nor_on_this_host(tokens, patience):
    auth = Authenticator(Exchange("a.b", insecure=False, patience=patience), lambda: BOB)
    for realm in ("http://c.d/token", "https://127.0.0.1/token", "https://169.254.169.254/token"):
        with pytest.raises(RegistryError, match="is refused"):
            auth.answer(parse_address("https://a.b/v2/"), challenge(tokens, realm), SCOPE, "")
