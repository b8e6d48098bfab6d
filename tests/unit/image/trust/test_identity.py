import pytest

from propolis.image.registry.name import parse_name
from propolis.image.trust.identity import Identity, Match, parse_identity

DIGEST = "sha256:" + "a" * 64
EXACT, REPO, DEFAULT = Match.EXACT, Match.REPOSITORY, Match.REPO_DIGEST_OR_EXACT


@pytest.mark.parametrize(
    ("match", "wanted", "signed", "accepted"),
    [
        # as in policy_reference_match_test.go of containers/image
        (EXACT, "busybox:latest", "docker.io/library/busybox:latest", True),
        (EXACT, "busybox:latest", "busybox:latest", True),
        (EXACT, "busybox:latest", "index.docker.io/library/busybox:latest", True),
        (EXACT, "busybox:latest", "busybox", False),
        (EXACT, "busybox:latest", "busybox:notlatest", False),
        (EXACT, "busybox:latest", "other/busybox:latest", False),
        (EXACT, f"busybox@{DIGEST}", "busybox:latest", False),
        (EXACT, f"busybox@{DIGEST}", f"busybox@{DIGEST}", True),
        (EXACT, "busybox:latest", "UPPERCASE", False),
        (EXACT, "busybox:latest", "", False),
        (DEFAULT, "busybox:latest", "busybox:latest", True),
        (DEFAULT, "busybox:latest", "busybox:notlatest", False),
        (DEFAULT, "busybox:latest", "busybox", False),
        (DEFAULT, f"busybox@{DIGEST}", "busybox:latest", True),
        (DEFAULT, f"busybox:1@{DIGEST}", "busybox:latest", True),
        (DEFAULT, f"busybox@{DIGEST}", "busybox", False),
        (DEFAULT, f"busybox@{DIGEST}", "other/busybox:latest", False),
        (REPO, "busybox:latest", "busybox", True),
        (REPO, "busybox:latest", "busybox:notlatest", True),
        (REPO, "busybox:latest", f"busybox@{DIGEST}", True),
        (REPO, "busybox:latest", "example.com/library/busybox", False),
        (REPO, "busybox:latest", "busyboxx", False),
        (REPO, "busybox:latest", "", False),
        (Match.DIGEST, "busybox:latest", "", True),
    ],
)
def test_names_that_come_from_a_registry(match, wanted, signed, accepted):
    assert Identity(match=match).accepts(signed, parse_name(wanted)) is accepted


@pytest.mark.parametrize("match", [EXACT, DEFAULT, REPO])
def test_what_is_in_no_registry_has_no_name_to_match(match):
    assert not Identity(match=match).accepts("busybox:latest", None)
    assert "no registry" in Identity(match=match).wants(None)


@pytest.mark.parametrize(
    ("reference", "signed", "accepted"),
    [
        ("example.com/app:1", "example.com/app:1", True),
        ("example.com/app:1", "example.com/app:2", False),
        ("example.com/app:1", "example.com/app", False),
        ("example.com/app:1", "", False),
    ],
)
def test_an_exact_reference(reference, signed, accepted):
    identity = parse_identity({"type": "exactReference", "dockerReference": reference}, "x")
    assert identity.accepts(signed, None) is accepted
    assert identity.accepts(signed, parse_name("busybox")) is accepted


def test_an_exact_repository():
    identity = parse_identity({"type": "exactRepository", "dockerRepository": "busybox"}, "x")
    assert identity.accepts("docker.io/library/busybox:7", None)
    assert not identity.accepts("docker.io/library/other:7", None)
    assert not identity.accepts("", None)


@pytest.mark.parametrize(
    ("prefix", "signed_prefix", "wanted", "signed", "accepted"),
    [
        ("mirror:5000/vendor", "vendor.example", "mirror:5000/vendor/app:1", "vendor.example/app:1", True),
        ("mirror:5000/vendor", "vendor.example", "mirror:5000/vendor/app:1", "mirror:5000/vendor/app:1", False),
        ("mirror:5000/vendor", "vendor.example", "mirror:5000/vendors/app:1", "vendor.example/app:1", False),
        ("mirror:5000/vendor", "vendor.example", "mirror:5000/vendors/app:1", "mirror:5000/vendors/app:1", True),
        ("mirror:5000", "vendor.example", "mirror:5000/app:1", "vendor.example/app:1", True),
        ("mirror:5000/a/app", "vendor.example/b", f"mirror:5000/a/app@{DIGEST}", "vendor.example/b:7", True),
    ],
)
def test_a_remapped_identity(prefix, signed_prefix, wanted, signed, accepted):
    identity = parse_identity({"type": "remapIdentity", "prefix": prefix, "signedPrefix": signed_prefix}, "x")
    assert identity.accepts(signed, parse_name(wanted)) is accepted


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "not an object"),
        ({}, "type is not a string"),
        ({"type": "matchEverything"}, "not known"),
        ({"type": "matchExact", "x": 1}, "'x', which is not known"),
        ({"type": "exactReference"}, "no 'dockerReference'"),
        ({"type": "exactReference", "dockerReference": "busybox"}, "neither a tag nor a digest"),
        ({"type": "exactReference", "dockerReference": "A b"}, "no docker reference"),
        ({"type": "exactRepository", "dockerRepository": "busybox:1"}, "has a tag"),
        ({"type": "remapIdentity", "prefix": "x.example"}, "no 'signedPrefix'"),
        ({"type": "remapIdentity", "prefix": "x.example/a:1", "signedPrefix": "y.example"}, "no host, namespace"),
        ({"type": "remapIdentity", "prefix": "busybox", "signedPrefix": "y.example"}, "no host, namespace"),
    ],
)
def test_what_is_no_identity_says_so(value, words):
    with pytest.raises(ValueError, match=words):
        parse_identity(value, "x")
