from pathlib import Path

import pytest

from propolis.errors import ImageNotFound, InvalidArgument
from propolis.image.reference import Transport, has_transport, parse, reads_standard_input

DIGEST = "sha256:" + "a" * 64


def nothing(path):
    return None


def parts(text, probe=nothing):
    found = parse(text, probe)
    return found.transport.value, str(found.path), found.name, found.digest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("oci:dir", ("oci", "dir", "", "")),
        ("oci:/a/b:latest", ("oci", str(Path("/a/b")), "latest", "")),
        ("oci:dir:registry.example:5000/a/b:1.0", ("oci", "dir", "registry.example:5000/a/b:1.0", "")),
        (f"oci:dir@{DIGEST}", ("oci", "dir", "", DIGEST)),
        (f"oci:dir:@{DIGEST}", ("oci", "dir", "", DIGEST)),
        (f"oci:dir:tag@{DIGEST}", ("oci", "dir", "tag", DIGEST)),
        ("oci-archive:a.tar:v1", ("oci-archive", "a.tar", "v1", "")),
        ("docker-archive:a.tar:busybox:1", ("docker-archive", "a.tar", "busybox:1", "")),
        ("oci:C:\\images\\x:tag", ("oci", "C:\\images\\x", "tag", "")),
        ("oci:dir@home:v1", ("oci", "dir@home", "v1", "")),
        ("dir:/a/b:c", ("dir", str(Path("/a/b:c")), "", "")),
        (f"dir:a@{DIGEST}", ("dir", "a", "", DIGEST)),
        ("docker-archive:-", ("docker-archive", "-", "", "")),
        ("oci-archive:-:v1", ("oci-archive", "-", "v1", "")),
        ("docker-daemon:busybox", ("docker-daemon", "None", "busybox", "")),
        ("docker-daemon:localhost:5000/a/b:1", ("docker-daemon", "None", "localhost:5000/a/b:1", "")),
        (f"docker-daemon:{DIGEST}", ("docker-daemon", "None", "", DIGEST)),
        (f"docker-daemon:a:1@{DIGEST}", ("docker-daemon", "None", "a:1", DIGEST)),
    ],
)
def test_transports_are_spelled_as_skopeo_does(text, expected):
    assert parts(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("here", ("oci", "here", "", "")),
        ("here:v1", ("oci", "here", "v1", "")),
        ("here:example.org:5000/x:v1", ("oci", "here", "example.org:5000/x:v1", "")),
        (f"here@{DIGEST}", ("oci", "here", "", DIGEST)),
        ("with:colon", ("oci", "with:colon", "", "")),
        ("with:colon:v2", ("oci", "with:colon", "v2", "")),
    ],
)
def test_a_bare_path_is_the_longest_that_exists(text, expected):
    there = {Path("here"), Path("with:colon")}
    assert parts(text, lambda path: Transport.OCI if path in there else None) == expected


@pytest.mark.parametrize(
    "text",
    [f"oci:dir:tag@{DIGEST}", f"docker-daemon:{DIGEST}", f"docker-daemon:a:1@{DIGEST}", "dir:a:b", "oci-archive:-"],
)
def test_its_text_parses_to_itself(text):
    reference = parse(text, nothing)
    assert str(reference) == text
    assert parse(str(reference), nothing) == reference


@pytest.mark.parametrize("text", ["-", "-:v1", f"-@{DIGEST}", "oci-archive:-", "docker-archive:-:a:1"])
def test_what_comes_through_standard_input_is_known(text):
    assert reads_standard_input(text)
    assert str(parse(text, lambda path: Transport.OCI_ARCHIVE if str(path) == "-" else None).path) == "-"


@pytest.mark.parametrize("text", ["-a", "a", "oci:-", "dir:-", "docker-daemon:a-", "oci-archive:-a", ""])
def test_what_does_not_come_through_standard_input_is_known(text):
    assert not reads_standard_input(text)


@pytest.mark.parametrize("text", ["oci:a", "dir:a", "docker-daemon:a", "docker://a", "ostree:a"])
def test_a_transport_is_no_path(text):
    assert has_transport(text)
    assert not has_transport(f"./{text}")


@pytest.mark.parametrize(
    ("text", "name", "digest", "shown"),
    [
        ("alpine", "alpine", "", "alpine"),
        ("alpine:3.20", "alpine:3.20", "", "alpine:3.20"),
        ("docker:27", "docker:27", "", "docker:27"),
        ("docker://alpine", "docker.io/library/alpine:latest", "", "docker://docker.io/library/alpine:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest", "", "docker://localhost:5000/x:latest"),
        (f"a.b/x:v@{DIGEST}", "a.b/x:v", DIGEST, f"docker://a.b/x:v@{DIGEST}"),
        (f"x@{DIGEST}", "x", DIGEST, f"x@{DIGEST}"),
    ],
)
def test_where_nothing_lies_a_name_is_one_in_a_registry(text, name, digest, shown):
    found = parse(text, nothing)
    assert (found.transport, found.path, found.name, found.digest) == (Transport.DOCKER, None, name, digest)
    assert str(found) == shown
    assert parse(shown, nothing) == found


def test_a_path_that_exists_comes_before_a_registry():
    assert parts("alpine", lambda path: Transport.OCI if path == Path("alpine") else None)[0] == "oci"
    assert parse("docker://alpine", lambda path: Transport.OCI).path is None


@pytest.mark.parametrize("text", ["./missing", "/missing:tag", "C:\\missing"])
def test_a_missing_path_is_not_taken_for_a_registry_name(text):
    with pytest.raises(ImageNotFound, match="no image at"):
        parse(text, nothing)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "oci:",
        "oci::tag",
        "a\0b",
        "x" * 9000,
        "docker://",
        "docker://Alpine",
        "docker:///alpine",
        "docker-daemon:",
        "docker-daemon:Alpine",
        "docker-daemon:alpine@sha256:12",
        "containers-storage:alpine",
        "dir:",
        "no such thing",
        "Dir",
        "oci:dir:two words",
        "oci:dir@sha256:short",
        "oci:d:@0",
    ],
)
def test_nonsense_is_refused(text):
    with pytest.raises(InvalidArgument):
        parse(text, nothing)


def test_a_broken_digest_after_an_existing_path_is_refused():
    with pytest.raises(InvalidArgument, match="neither"):
        parse("here@sha256:12", lambda path: Transport.OCI if path == Path("here") else None)
