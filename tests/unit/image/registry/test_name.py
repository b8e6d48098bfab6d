import pytest

from propolis.errors import InvalidArgument
from propolis.image.registry.name import host_of, is_qualified, parse_name

SHA = "sha256:" + "0f" * 32
SHA512 = "sha512:" + "0f" * 64


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox:latest"),
        ("someone/tool", "docker.io/someone/tool:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/busybox:1", "docker.io/library/busybox:1"),
        ("a/b/c/d", "docker.io/a/b/c/d:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("host:5000/x/y", "host:5000/x/y:latest"),
        ("example.org/x", "example.org/x:latest"),
        ("UPPER/x", "UPPER/x:latest"),
        ("Example.org/x", "Example.org/x:latest"),
        ("127.0.0.1:80/x", "127.0.0.1:80/x:latest"),
        ("[::1]:5000/x:v", "[::1]:5000/x:v"),
        ("[2001:db8::1]/x", "[2001:db8::1]/x:latest"),
        (f"busybox@{SHA}", f"docker.io/library/busybox@{SHA}"),
        (f"example.org:1/x:v1@{SHA}", f"example.org:1/x:v1@{SHA}"),
        (f"x@{SHA512}", f"docker.io/library/x@{SHA512}"),
        ("a.b/c-d--e__f.g_h", "a.b/c-d--e__f.g_h:latest"),
        ("xn--n3h.com/x", "xn--n3h.com/x:latest"),
        ("1/2/3", "docker.io/1/2/3:latest"),
        ("host.:5000/x", None),
        ("example.org/x:" + "t" * 128, "example.org/x:" + "t" * 128),
        ("x:_.-", "docker.io/library/x:_.-"),
        ("a.b/" + "c" * 64 + ":v", "a.b/" + "c" * 64 + ":v"),
        ("e.f/" + "/".join(["a" * 63] * 3) + "/" + "a" * 63, "e.f/" + "/".join(["a" * 63] * 4) + ":latest"),
    ],
)
def test_names_mean_what_docker_takes_them_for(text, full):
    if full is None:
        with pytest.raises(InvalidArgument):
            parse_name(text)
        return
    assert str(parse_name(text)) == full
    assert parse_name(full) == parse_name(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no repository"),
        (":v", "no repository"),
        ("/x", "no repository"),
        ("x/", "no repository"),
        ("a//b", "no repository"),
        ("-x", "no repository"),
        ("x-", "no repository"),
        ("x___y", "no repository"),
        ("x..y", "no repository"),
        ("x._y", "no repository"),
        ("x y", "no repository"),
        ("x\ny", "no repository"),
        ("x\n", "no repository"),
        ("ä", "no repository"),
        ("Busybox", "lower case"),
        ("example.org/X", "lower case"),
        ("x:", "no tag"),
        ("x:-a", "no tag"),
        ("x:.a", "no tag"),
        ("x:a\n", "no tag"),
        ("x:" + "t" * 129, "no tag"),
        ("x:a:b", "no tag"),
        ("x@", "no digest"),
        ("x@sha256:", "no digest"),
        ("x@sha256:" + "0" * 63, "no digest"),
        ("x@SHA256:" + "0" * 64, "no digest"),
        ("x@sha256:" + "A" * 64, "no digest"),
        ("x@md5:" + "0" * 32, "no digest"),
        (f"x@{SHA}@{SHA}", "no digest"),
        (f"@{SHA}", "no repository"),
        ("-a.b/x", "no host"),
        ("a-.b/x", "no host"),
        ("a..b/x", "no host"),
        (".a/x", "no host"),
        ("a_b.c/x", "no host"),
        ("host:/x", "no host"),
        ("host:port/x", "no host"),
        ("host:0/x", "no port"),
        ("host:65536/x", "no port"),
        ("host:99999999999999999999/x", "no port"),
        ("[::1/x", "no host"),
        ("[fe80::1%25eth0]/x", "no host"),
        ("[::1]x/y", "no host"),
        ("https://example.org/x", "begins a web address"),
        ("http://x", "begins a web address"),
        ("user@example.org/x", "no digest"),
        ("a" * 64, "identifier"),
        ("example.org/" + "a" * 256, "255 characters"),
        ("a." * 128 + "b/x", "no host"),
    ],
)
def test_what_breaks_the_grammar_is_refused_with_its_reason(text, words):
    with pytest.raises(InvalidArgument, match=words):
        parse_name(text)


@pytest.mark.parametrize(
    ("domain", "host"), [("a.b", "a.b"), ("a.b:1", "a.b"), ("[::1]", "::1"), ("[::1]:5000", "::1")]
)
def test_hosts_of_domains(domain, host):
    assert host_of(domain) == host


def test_a_dot_in_the_tag_or_the_digest_says_nothing_about_the_registry():
    assert not is_qualified("x:1.2")
    assert not is_qualified(f"x/y:1.2@{SHA}")
    assert is_qualified("localhost/x")
