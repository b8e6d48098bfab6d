import pytest

from propolis.errors import AccessDenied, InvalidArgument
from propolis.image.registry.configuration import Configuration, parse_configuration
from propolis.image.registry.name import parse_name

SHA = "sha256:" + "0f" * 32


def read(*texts):
    merged = Configuration()
    for text in texts:
        merged = merged.merged(*parse_configuration(text.encode(), "x.conf"))
    return merged


def origins(configuration, name):
    return [(str(found), found.insecure) for found in configuration.origins(parse_name(name))]


def test_without_configuration_a_name_means_itself():
    assert origins(read(""), "example.org:5000/a/b") == [("example.org:5000/a/b", False)]
    assert [str(name) for name in read("").candidates("busybox")] == ["docker.io/library/busybox:latest"]


def test_mirrors_come_first_and_the_longest_prefix_counts():
    configuration = read(
        """
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.example.org:5000/hub"
        insecure = true
        [[registry.mirror]]
        location = "other"
        [[registry]]
        prefix = "docker.io/library/busybox"
        location = "example.net/busy"
        insecure = true
        """
    )
    assert origins(configuration, "alpine") == [
        ("mirror.example.org:5000/hub/library/alpine", True),
        ("other/library/alpine", False),
        ("docker.io/library/alpine", False),
    ]
    assert origins(configuration, "busybox:1") == [("example.net/busy", True)]
    assert origins(configuration, "busybox-extra") == origins(configuration, "busybox-extra:latest")
    assert len(origins(configuration, "busybox-extra")) == 3
    assert origins(configuration, "docker.io.example.org/x") == [("docker.io.example.org/x", False)]


def test_mirrors_may_be_for_digests_or_tags_only():
    configuration = read(
        """
        [[registry]]
        location = "a.example"
        [[registry.mirror]]
        location = "digests.example"
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "tags.example"
        pull-from-mirror = "tag-only"
        [[registry]]
        location = "b.example"
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "m.example"
        """
    )
    assert [place for place, _ in origins(configuration, "a.example/x")] == ["tags.example/x", "a.example/x"]
    assert [place for place, _ in origins(configuration, f"a.example/x@{SHA}")] == ["digests.example/x", "a.example/x"]
    assert [place for place, _ in origins(configuration, "b.example/x")] == ["b.example/x"]
    assert [place for place, _ in origins(configuration, f"b.example/x@{SHA}")] == ["m.example/x", "b.example/x"]


def test_wildcards_stand_for_subdomains():
    configuration = read('[[registry]]\nprefix = "*.example.org"\nblocked = true\n')
    with pytest.raises(AccessDenied, match="blocked"):
        configuration.origins(parse_name("a.b.example.org/x"))
    assert origins(configuration, "example.org/x") == [("example.org/x", False)]
    assert origins(configuration, "badexample.org/x") == [("badexample.org/x", False)]
    rewritten = read('[[registry]]\nprefix = "*.example.org"\nlocation = "proxy.example.net/all"\n')
    assert origins(rewritten, "a.example.org/x/y") == [("proxy.example.net/all/x/y", False)]


def test_a_blocked_registry_is_blocked_below_its_prefix_only():
    configuration = read('[[registry]]\nprefix = "docker.io/evil"\nblocked = true\n')
    with pytest.raises(AccessDenied, match=r"docker\.io/evil/x is blocked"):
        configuration.origins(parse_name("evil/x"))
    assert origins(configuration, "evil2/x") == [("docker.io/evil2/x", False)]


def test_short_names_are_looked_up_and_searched_for():
    configuration = read(
        """
        unqualified-search-registries = ["a.example", "b.example:5000"]
        [aliases]
        "tool" = "c.example/deep/tool"
        "some/thing" = "d.example/thing"
        """
    )
    assert [str(name) for name in configuration.candidates("tool:1")] == ["c.example/deep/tool:1"]
    assert [str(name) for name in configuration.candidates(f"some/thing@{SHA}")] == [f"d.example/thing@{SHA}"]
    assert [str(name) for name in configuration.candidates("x")] == ["a.example/x:latest", "b.example:5000/x:latest"]
    assert [str(name) for name in configuration.candidates("a.example/x")] == ["a.example/x:latest"]
    enforcing = read('unqualified-search-registries = ["a.example", "b.example"]\nshort-name-mode = "enforcing"')
    with pytest.raises(InvalidArgument, match="any of several") as caught:
        enforcing.candidates("x:1")
    assert "a.example/x, b.example/x" in caught.value.hint


def test_later_documents_replace_rules_and_aliases_of_earlier_ones():
    configuration = read(
        'unqualified-search-registries = ["a.example"]\n[aliases]\n"x" = "a.example/x"\n"y" = "a.example/y"\n'
        '[[registry]]\nlocation = "r.example"\ninsecure = true\n[[registry]]\nlocation = "s.example"\ninsecure = true',
        '[aliases]\n"x" = "b.example/x"\n[[registry]]\nlocation = "r.example"\n',
    )
    assert [str(name) for name in configuration.candidates("x")] == ["b.example/x:latest"]
    assert [str(name) for name in configuration.candidates("y")] == ["a.example/y:latest"]
    assert [str(name) for name in configuration.candidates("z")] == ["a.example/z:latest"]
    assert origins(configuration, "r.example/x") == [("r.example/x", False)]
    assert origins(configuration, "s.example/x") == [("s.example/x", True)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("=", "not TOML"),
        ("\xff", "no line|not TOML"),
        ("[registries.search]\nregistries = []", "version 1"),
        ("registry = 7", "registry is not a list of tables"),
        ("[[registry]]\ninsecure = true", "prefix and location are missing"),
        ("[[registry]]\nlocation = 7", "location is not a line of text"),
        ('[[registry]]\nlocation = "a\\u001b"', "location is not a line of text"),
        ('[[registry]]\nlocation = "a.b"\nblocked = "yes"', "blocked is neither true nor false"),
        ('[[registry]]\nlocation = "a.b"\n[[registry.mirror]]', "location of a mirror is missing"),
        (
            '[[registry]]\nlocation = "a.b"\n[[registry.mirror]]\nlocation = "c.d"\npull-from-mirror = "x"',
            "pull-from-mirror is none of",
        ),
        ("unqualified-search-registries = 7", "not a list of texts"),
        ('unqualified-search-registries = ["a b"]', "'a b' is no registry"),
        ('short-name-mode = "x"', "short-name-mode is none of"),
        ("aliases = 7", "aliases is not a table"),
        ('[aliases]\n"x" = "y z"', "no repository"),
        ("x = '" + "x" * (1 << 20) + "'", "larger than 1 MiB"),
        ("x = " + "[" * 100_000, "not TOML"),
    ],
)
def test_bad_documents_are_refused_by_name(text, words):
    with pytest.raises(InvalidArgument, match=words):
        parse_configuration(text.encode("latin-1"), "x.conf")


def test_a_location_that_makes_no_name_is_told_when_it_is_used():
    configuration = read('[[registry]]\nprefix = "a.b"\nlocation = "c d"\n')
    with pytest.raises(InvalidArgument, match="no host"):
        configuration.origins(parse_name("a.b/x"))
