import base64
import json
import sys
from pathlib import Path

import pytest

from propolis.errors import InvalidArgument
from propolis.image.registry.name import parse_name
from propolis.image.trust.policy import MAX_POLICY, parse_policy, scopes

DIGEST = "sha256:" + "a" * 64
ANY, REJECT = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]
FILE = Path("/etc/propolis/policy.json")


def parsed(document):
    return parse_policy(document if isinstance(document, bytes) else json.dumps(document).encode(), FILE)


def kinds(policy, transport, names):
    return [(requirement.where, requirement.kind) for requirement in policy.requirements(transport, names)]


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("example.com:5000/team/app:1", "example.com:5000/team/app:1"),
        ("example.com:5000/team/app:2", "example.com:5000/team/app"),
        (f"example.com:5000/team/app:1@{DIGEST}", f"example.com:5000/team/app@{DIGEST}"),
        (f"example.com:5000/team/other@{DIGEST}", "example.com:5000/team"),
        ("example.com:5000/teams/app", "example.com:5000"),
        ("a.b.example.com:77/app", "*.b.example.com"),
        ("c.b.example.com/app", "*.b.example.com"),
        ("b.example.com/app", "*.example.com"),
        ("example.com/app", ""),
        ("busybox", "docker.io/library/busybox"),
    ],
)
def test_the_most_specific_scope_counts(name, where):
    named = (
        "example.com:5000/team/app:1",
        f"example.com:5000/team/app@{DIGEST}",
        "example.com:5000/team/app",
        "example.com:5000/team",
        "example.com:5000",
        "*.b.example.com",
        "*.example.com",
        "docker.io/library/busybox",
        "",
    )
    policy = parsed({"default": REJECT, "transports": {"docker": dict.fromkeys(named, ANY)}})
    found = kinds(policy, "docker", scopes("docker", parse_name(name), None, ""))
    assert found == [(f"transports.docker.{where}[0]", "insecureAcceptAnything")]


def test_another_transport_has_the_default():
    policy = parsed({"default": REJECT, "transports": {"docker": {"": ANY}}})
    assert kinds(policy, "oci", scopes("oci", None, Path("/x"), "")) == [("default[0]", "reject")]
    assert kinds(policy, "docker-daemon", scopes("docker-daemon", None, None, "")) == [("default[0]", "reject")]


def test_places_on_this_host_are_paths_without_links(tmp_path):
    (tmp_path / "real/images").mkdir(parents=True)
    place = tmp_path.resolve() / "real/images"
    if sys.platform != "win32":  # making links takes a privilege there
        (tmp_path / "link").symlink_to(tmp_path / "real")
        assert scopes("oci", None, tmp_path / "link/images", "tag")[1] == str(place)
    found = scopes("oci", None, tmp_path / "real/../real/images", "tag")
    assert found[:3] == (f"{place}:tag", str(place), str(place.parent))
    assert found[-1] == str(place.parents[-2])
    policy = parsed({"default": REJECT, "transports": {"oci": {str(tmp_path.resolve()): ANY}}})
    assert kinds(policy, "oci", found)[0][1] == "insecureAcceptAnything"


def test_keys_are_files_beside_the_policy_or_in_it():
    data = base64.b64encode(b"-----BEGIN").decode()
    signed = {"type": "sigstoreSigned", "signedIdentity": {"type": "matchRepository"}}
    policy = parsed(
        {
            "default": [
                signed | {"keyPath": "/abs/cosign.pub"},
                signed | {"keyPaths": ["one.pub", "two.pub"]},
                signed | {"keyData": data},
                signed | {"keyDatas": [data, data]},
            ]
        }
    )
    keys = [requirement.keys for requirement in policy.default]
    assert [[key.path for key in some] for some in keys] == [
        [Path("/abs/cosign.pub")],
        [FILE.parent / "one.pub", FILE.parent / "two.pub"],
        [None],
        [None, None],
    ]
    assert [key.data for key in keys[3]] == [b"-----BEGIN"] * 2
    assert not any(requirement.unsupported for requirement in policy.default)


@pytest.mark.parametrize(
    ("requirement", "words"),
    [
        ({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}, "GPG"),
        ({"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}}, "base layers"),
        ({"type": "sigstoreSigned", "fulcio": {"caPath": "/x"}}, "Fulcio"),
        ({"type": "sigstoreSigned", "pki": {"caRootsPath": "/x"}}, "certificates"),
        ({"type": "sigstoreSigned", "keyPath": "/k", "rekorPublicKeyPath": "/r"}, "Rekor"),
    ],
)
def test_what_is_not_supported_is_a_requirement_that_is_never_met(requirement, words):
    (found,) = parsed({"default": [requirement]}).default
    assert words in found.unsupported


KEY = {"type": "sigstoreSigned", "keyPath": "/k"}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "not JSON"),
        (b"\xff", "cannot be used"),
        (b"[]", "not an object"),
        (b"[" * 100000, "nested too deeply"),
        (b'{"default": NaN}', "NaN is not JSON"),
        (b'{"default": [{"type": "reject"}], "default": [{"type": "insecureAcceptAnything"}]}', "'default' twice"),
        (b" " * (MAX_POLICY + 1), "larger than 1 MiB"),
        ({}, "no 'default'"),
        ({"default": []}, "not a list, or empty"),
        ({"default": {}}, "not a list, or empty"),
        ({"default": ANY * 65}, "more than 64"),
        ({"default": ANY, "defaults": ANY}, "'defaults', which is not known"),
        ({"default": ["x"]}, r"default\[0\] is not an object"),
        ({"default": [{}]}, "type is not a string"),
        ({"default": [{"type": "accept"}]}, "'accept', which is not known"),
        ({"default": [{"type": "reject", "keyPath": "/x"}]}, "'keyPath', which is not known"),
        ({"default": ANY, "transports": []}, "transports is not an object"),
        ({"default": ANY, "transports": {"docker": []}}, "transports.docker is not an object"),
        ({"default": ANY, "transports": {"docker": {"x.example": []}}}, "not a list, or empty"),
        ({"default": ANY, "transports": {"docker": {"a*.example": ANY}}}, "wildcard"),
        ({"default": ANY, "transports": {"docker": {"*.example/app": ANY}}}, "wildcard"),
        ({"default": ANY, "transports": {"dir": {"/": ANY}}}, "no path"),
        ({"default": ANY, "transports": {"oci": {"/images/": ANY}}}, "no path"),
        ({"default": [{"type": "sigstoreSigned"}]}, "has to have one of keyPath"),
        ({"default": [KEY | {"keyData": "eA=="}]}, "has to have one of keyPath"),
        ({"default": [KEY | {"keyPath": 7}]}, "not a string"),
        ({"default": [KEY | {"keyPath": "/a\n"}]}, "control characters"),
        ({"default": [{"type": "sigstoreSigned", "keyData": "%"}]}, "not base64"),
        ({"default": [{"type": "sigstoreSigned", "keyPaths": []}]}, "not a list, or empty"),
        ({"default": [KEY | {"signedIdentity": {"type": "no"}}]}, "'no', which is not known"),
        ({"default": [KEY | {"signedIdentity": None}]}, "not an object"),
        ({"default": [{"type": "signedBy"}]}, "no 'keyType'"),
    ],
)
def test_what_is_not_understood_in_full_is_refused(document, words):
    with pytest.raises(InvalidArgument, match=words) as caught:
        parsed(document)
    assert str(FILE) in str(caught.value)
