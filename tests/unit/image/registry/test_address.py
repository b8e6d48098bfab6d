import pytest

from propolis.image.registry.address import is_internal, is_loopback, parse_address


@pytest.mark.parametrize(
    ("text", "shown", "url"),
    [
        ("https://Example.ORG", "example.org", "https://example.org/"),
        ("https://example.org:443/v2/?a=b#c", "example.org", "https://example.org/v2/?a=b"),
        ("http://example.org:443?a", "example.org:443", "http://example.org:443/?a"),
        ("http://user:secret@example.org/", "example.org", "http://example.org/"),
        ("http://good.org\\@example.org/", "example.org", "http://example.org/"),
        ("http://[::1]:5000/v2/", "[::1]:5000", "http://[::1]:5000/v2/"),
        ("https://[0:0::1]/", "[::1]", "https://[::1]/"),
        ("https://bücher.example/", "xn--bcher-kva.example", "https://xn--bcher-kva.example/"),
        ("https://a_b.example./x", "a_b.example.", "https://a_b.example./x"),
    ],
)
def test_addresses(text, shown, url):
    address = parse_address(text)
    assert address.shown == shown
    assert str(address) == url
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.org",
        "ftp://example.org/",
        "file:///etc/passwd",
        "http://",
        "http:///x",
        "http://[::1",
        "http://[::1%25eth0]/",
        "http://[v1.x]/",
        "http://a:0/",
        "http://a:65536/",
        "http://a:b/",
        "http://a b/",
        "http://a%2eb/",
        "http://a..b/",
        "http://a\x7f/",
        "http://" + "a" * 64 + "ü.example/",
        "http://" + "a." * 127 + "example/",
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match=r"no address|no host|Port|port|IPv6|IPvFuture|address|label|netloc"):
        parse_address(text)


def test_parameters_are_added_to_those_that_are_there():
    address = parse_address("https://a.b/token?service=x")
    assert str(address.with_query({"scope": "a:b c", "n": "1"})) == "https://a.b/token?service=x&scope=a%3Ab+c&n=1"
    assert str(parse_address("https://a.b").with_query({"n": "1"})) == "https://a.b/?n=1"


def test_a_port_that_is_the_schemes_own_is_the_same_origin():
    assert parse_address("https://a.b:443/x").origin == parse_address("https://A.b/y").origin
    assert parse_address("http://a.b/").origin != parse_address("https://a.b/").origin


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("x.localhost", True),
        ("a.b", False),
    ],
)
def test_what_is_loopback(host, here):
    assert is_loopback(host) is here
    assert is_internal(host) is here


@pytest.mark.parametrize(
    "host", ["localhost.", "0.0.0.0", "::", "169.254.169.254", "fe80::1", "::ffff:127.0.0.1", "127.1"]
)
def test_what_else_leads_into_this_host(host):
    assert is_internal(host)
