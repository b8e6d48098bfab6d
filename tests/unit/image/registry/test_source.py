"""Whole pulls from a registry in this process: policies, mirrors, hostile documents, and every fault in every phase."""

import json
import re
from dataclasses import replace

import pytest

from propolis.errors import (
    AccessDenied,
    BlobDamaged,
    DigestMismatch,
    ImageError,
    ImageInvalid,
    ImageNotFound,
    PlatformMismatch,
    PropolisError,
    RegistryError,
    RegistryUnreachable,
)
from propolis.image.layers import unpack
from propolis.image.manifest import DOCKER_INDEX, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, SCHEMA_1_TYPES
from propolis.image.platforms import platform_of
from propolis.image.reference import parse
from propolis.image.registry.source import RegistrySource
from propolis.spec import Architecture, PullPolicy
from propolis.testing.images import write_index, write_layout
from propolis.testing.registry import Fault, FaultKind, Registry
from propolis.testing.trees import MemorySink

AMD64 = platform_of(Architecture.X86_64)
FILES = [[b"a", b"b"], [b"a", b"c"]]


@pytest.fixture
def pulled(store, patience):
    """Open an image by what a user writes, and unpack it; returns the source's answer and the paths of each layer."""

    def pull(text, policy=PullPolicy.ALWAYS, bounds=patience):
        reference = parse(text, lambda path: None)
        source = RegistrySource(store, policy, bounds)
        found = source.find(reference.name, reference.digest, AMD64)
        if found.remember is not None:
            found.remember()
        trees = []
        for layer in found.layers:
            sink = MemorySink()
            with source.open_layer(layer) as blob:
                unpack(blob, layer, sink)
            trees.append([entry.path for entry in sink.entries])
        return found, trees

    return pull


@pytest.fixture
def configure(home):
    """Write our own registries.conf."""

    def write(text):
        (home / "propolis").mkdir(exist_ok=True)
        (home / "propolis/registries.conf").write_text(text)

    return write


def test_an_image_is_found_by_tag_and_by_digest(registry, pulled):
    found, trees = pulled(f"{registry.address}/app")
    assert trees == FILES
    assert found.config.cmd == ("/c",)
    for name in (f"app@{found.digest}", f"app:latest@{found.digest}", f"app:nosuch@{found.digest}"):
        assert replace(pulled(f"docker://{registry.address}/{name}")[0], name=found.name) == found


def test_always_asks_with_one_small_request_when_nothing_is_new(registry, pulled):
    pulled(f"{registry.address}/app")
    registry.requests.clear()
    pulled(f"{registry.address}/app")
    asked = [f"{request.method} {request.path}" for request in registry.requests if "blobs" not in request.path]
    assert asked == ["GET /v2/", "HEAD /v2/app/manifests/latest"]


def test_missing_asks_nobody_for_what_is_here(registry, pulled, store, patience):
    digest = pulled(f"{registry.address}/app")[0].digest
    registry.requests.clear()
    registry.manifests.clear()
    for policy in (PullPolicy.MISSING, PullPolicy.NEVER):
        assert (
            RegistrySource(store, policy, patience).find(f"{registry.address}/app:latest", "", AMD64).digest == digest
        )
        assert RegistrySource(store, policy, patience).find(f"{registry.address}/app", digest, AMD64).digest == digest
    assert registry.requests == []


def test_missing_keeps_what_the_tag_named_and_always_does_not(registry, pulled, tmp_path):
    old = pulled(f"{registry.address}/app")[0].digest
    write_layout(tmp_path / "new", [{"a": b"new"}])
    new = registry.push(tmp_path / "new", "app")
    assert pulled(f"{registry.address}/app", PullPolicy.MISSING)[0].digest == old
    assert pulled(f"{registry.address}/app")[0].digest == new
    assert pulled(f"{registry.address}/app", PullPolicy.MISSING)[0].digest == new


def test_never_fetches_neither_documents_nor_layers(registry, pulled, store):
    with pytest.raises(ImageNotFound, match="not to be fetched"):
        pulled(f"{registry.address}/app", PullPolicy.NEVER)
    assert registry.requests == []
    found, trees = pulled(f"{registry.address}/app")
    registry.requests.clear()
    assert pulled(f"{registry.address}/app", PullPolicy.NEVER) == (found, trees), "layers are kept"
    store.path(found.layers[1].digest).unlink()
    with pytest.raises(ImageNotFound, match=r"layer sha256:.* is not on this host"):
        pulled(f"{registry.address}/app", PullPolicy.NEVER)
    assert registry.requests == []


@pytest.mark.parametrize("damage", [b"", b"damaged", None])
def test_a_damaged_layer_is_put_aside_and_fetched_again(registry, pulled, store, damage):
    found, trees = pulled(f"{registry.address}/app")
    path = store.path(found.layers[0].digest)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if damage is None else damage)
    if damage is None:
        with pytest.raises(BlobDamaged, match="was kept"):
            pulled(f"{registry.address}/app", PullPolicy.MISSING)
    assert pulled(f"{registry.address}/app", PullPolicy.MISSING) == (found, trees)
    assert path.read_bytes() == whole
    assert path.with_name(f"damaged-{path.name}").exists()


def test_a_lost_document_is_fetched_again(registry, pulled, store):
    found, _ = pulled(f"{registry.address}/app")
    store.path(found.digest).write_bytes(b"damaged")
    assert pulled(f"{registry.address}/app", PullPolicy.MISSING)[0] == found


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind=FaultKind.STATUS, status=404, times=0),
        Fault(kind=FaultKind.STATUS, status=500, times=0),
        Fault(kind=FaultKind.STATUS, status=401, times=0),
        Fault(kind=FaultKind.DROP, times=0),
        Fault(kind=FaultKind.WRONG, request="manifests", after=5, times=0),
        Fault(kind=FaultKind.STATUS, status=404, request="GET .*/blobs", times=0),
    ],
)
def test_mirrors_are_asked_first_and_passed_over_when_they_fail(registry, layout, pulled, configure, fault):
    with Registry() as mirror:
        mirror.push(layout, "copies/app")
        configure(
            f'[[registry]]\nprefix = "app.example"\nlocation = "{registry.address}"\n'
            f'[[registry.mirror]]\nlocation = "{mirror.address}/copies"\n'
        )
        mirror.arm(fault)
        assert pulled("app.example/app")[1] == FILES
        assert mirror.requests
        assert registry.count("blobs") >= 2
        mirror.faults.clear()
        registry.requests.clear()
        assert pulled("app.example/app:latest")[1] == FILES
        assert registry.requests == []


def test_when_all_fail_each_is_told(registry, configure, pulled):
    with Registry() as mirror:
        configure(
            f'[[registry]]\nprefix = "app.example"\nlocation = "{registry.address}"\n'
            f'[[registry.mirror]]\nlocation = "{mirror.address}"\n'
        )
        with pytest.raises(ImageNotFound, match=re.escape(registry.address)) as caught:
            pulled("app.example/nosuch")
        assert f"before that: {mirror.address}/nosuch" in caught.value.hint


def test_a_blocked_registry_is_not_asked(registry, configure, pulled):
    configure(f'[[registry]]\nlocation = "{registry.address}"\nblocked = true\n')
    with pytest.raises(AccessDenied, match="blocked"):
        pulled(f"{registry.address}/app")
    assert registry.requests == []


def test_short_names_are_searched_for_in_order(registry, configure, pulled):
    with Registry() as first:
        configure(f'unqualified-search-registries = ["{first.address}", "{registry.address}"]')
        assert pulled("app")[1] == FILES
        assert first.count("manifests") == 1
        with pytest.raises(ImageNotFound) as caught:
            pulled("nosuch")
        assert "no file or directory 'nosuch' either" in caught.value.hint


@pytest.mark.parametrize("authentication", ["basic", "token"])
def test_logins_are_used(layout, pulled, home, authentication):
    with Registry(authentication=authentication, users={"bob": "hunter2"}) as registry:
        registry.push(layout, "app")
        with pytest.raises(AccessDenied, match="answers 401") as caught:
            pulled(f"{registry.address}/app")
        assert authentication == "token" or f"docker login {registry.address}" in caught.value.hint
        (home / ".docker").mkdir()
        auths = {"auths": {registry.address: {"auth": "Ym9iOmh1bnRlcjI="}}}
        (home / ".docker/config.json").write_text(json.dumps(auths))
        assert pulled(f"{registry.address}/app")[1] == FILES
        assert registry.count("/token") == (2 if authentication == "token" else 0), "one refused, one for everything"


def test_a_token_that_expires_on_the_way_is_renewed(layout, pulled):
    with Registry(authentication="token") as registry:
        registry.push(layout, "app")
        registry.token_lifetime = 0
        with pytest.raises(AccessDenied):
            pulled(f"{registry.address}/app")
        registry.token_lifetime = 300
        registry.arm(Fault(kind=FaultKind.STATUS, status=401, request="blobs", headers={
            "WWW-Authenticate": f'Bearer realm="http://{registry.address}/token"'}))  # fmt: skip
        assert pulled(f"{registry.address}/app")[1] == FILES


def document(registry, name, value, media_type=OCI_MANIFEST):
    registry.put(name, "latest", value, media_type)
    return f"{registry.address}/{name}"


def described(data, media_type, digest, **changes):
    return {"mediaType": media_type, "digest": digest, "size": len(data), **changes}


CONFIG = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}}).encode()


def manifest(registry, layers=(), **changes):
    config = described(CONFIG, OCI_CONFIG, registry.put_blob(CONFIG))
    return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": list(layers), **changes}


LAYER = {"mediaType": f"{OCI_LAYER}+gzip", "digest": "sha256:" + "0" * 64, "size": 1}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layers": [LAYER] * 10_000}, "10000 items"),
        ({"layers": [LAYER] * 2}, "2 layers, but its config lists 0 diff_ids"),
        ({"layers": [LAYER | {"mediaType": "text/plain"}]}, "'text/plain', which cannot be unpacked"),
        ({"layers": [LAYER | {"size": -1}]}, "not between 0"),
        ({"layers": [LAYER | {"size": 1 << 60}]}, "not between 0"),
        ({"layers": [LAYER | {"size": 1.5}]}, "not a whole number"),
        ({"layers": [LAYER | {"digest": "md5:" + "0" * 32}]}, "not a sha256 or sha512 digest"),
        ({"layers": 7}, "not a list"),
        ({"config": LAYER}, "no container image"),
        ({"config": None}, "config is missing"),
        ({"schemaVersion": 1}, "schemaVersion is not 2"),
        ({"mediaType": "text/plain"}, "'text/plain', which is no image"),
        ({"fsLayers": []}, "schema 1"),
        ({"mediaType": SCHEMA_1_TYPES[0]}, "schema 1"),
        ({"manifests": []}, "does not belong"),
    ],
)
def test_hostile_manifests_are_refused(registry, pulled, changes, words):
    with pytest.raises(ImageInvalid, match=words):
        pulled(document(registry, "bad", manifest(registry) | changes))


@pytest.mark.parametrize("size", [len(CONFIG) + 1, 0, 5 << 20])
def test_a_config_whose_size_lies_is_refused(registry, pulled, size):
    config = described(CONFIG, OCI_CONFIG, registry.put_blob(CONFIG), size=size)
    with pytest.raises(ImageInvalid, match="bytes"):
        pulled(document(registry, "bad", manifest(registry, config=config)))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"<html>", b'{"schemaVersion": 1, "fsLayers": []}'])
def test_what_is_no_manifest_is_refused(registry, pulled, body):
    with pytest.raises(ImageInvalid):
        pulled(document(registry, "bad", body))


def test_a_schema_1_manifest_says_so(registry, pulled):
    signed = b'{"schemaVersion": 1, "name": "x", "fsLayers": [{"blobSum": "x"}], "signatures": []}'
    with pytest.raises(ImageInvalid, match="schema 1, which is obsolete"):
        pulled(document(registry, "old", signed, SCHEMA_1_TYPES[1]))


def test_a_manifest_larger_than_registries_take_is_refused(registry, pulled):
    with pytest.raises(RegistryError, match="more than the 4096 KiB"):
        pulled(document(registry, "bad", b" " * (5 << 20)))


def test_an_index_that_contains_itself_ends(registry, pulled):
    """Which takes a registry that lies about digests, so it ends there."""
    inner = {"mediaType": DOCKER_INDEX, "digest": "sha256:" + "0" * 64, "size": 1}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inner]}
    data = json.dumps(index).encode()
    registry.manifests["loop", inner["digest"]] = (data, OCI_INDEX)
    with pytest.raises(DigestMismatch):
        pulled(document(registry, "loop", index, OCI_INDEX))


def test_indexes_nested_too_deeply_are_refused(registry, pulled):
    value, media_type = manifest(registry), OCI_MANIFEST
    for _ in range(6):
        data = json.dumps(value).encode()
        digest = registry.put("deep", "latest", data, media_type)
        value, media_type = (
            {
                "schemaVersion": 2,
                "mediaType": OCI_INDEX,
                "manifests": [described(data, media_type, digest)],
            },
            OCI_INDEX,
        )
    with pytest.raises(ImageInvalid, match="nested more than"):
        pulled(document(registry, "deep", value, OCI_INDEX))


def test_an_index_that_leads_to_too_many_documents_is_refused(registry, pulled):
    arm = json.dumps({"os": "linux", "architecture": "arm", "rootfs": {"diff_ids": []}}).encode()
    config = described(arm, OCI_CONFIG, registry.put_blob(arm))
    manifests = []
    for number in range(100):
        data = json.dumps(manifest(registry, config=config, annotations={"n": str(number)})).encode()
        manifests.append(described(data, OCI_MANIFEST, registry.put("many", f"t{number}", data, OCI_MANIFEST)))
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
    with pytest.raises(ImageInvalid, match="more than 64 documents"):
        pulled(document(registry, "many", index, OCI_INDEX))


def test_the_same_layer_twice_is_two_layers(registry, pulled, tmp_path):
    write_layout(tmp_path / "x", [{"a": b"1"}, {"a": b"1"}])
    registry.push(tmp_path / "x", "twice")
    assert pulled(f"{registry.address}/twice")[1] == [[b"a"], [b"a"]]


def test_sha512_names_are_understood(registry, pulled, tmp_path):
    import hashlib

    write_layout(tmp_path / "x", [{"a": b"1"}], compression="none")
    registry.push(tmp_path / "x", "app512")
    value = json.loads(registry.manifests["app512", "latest"][0])
    (layer,) = value["layers"]
    blob = registry.blobs[layer["digest"]]
    layer["digest"] = f"sha512:{hashlib.sha512(blob).hexdigest()}"
    registry.blobs[layer["digest"]] = blob
    data = json.dumps(value).encode()
    digest = f"sha512:{hashlib.sha512(data).hexdigest()}"
    registry.manifests["app512", digest] = (data, OCI_MANIFEST)
    assert pulled(f"{registry.address}/app512@{digest}")[1] == [[b"a"]]


def test_an_image_for_another_machine_is_a_mismatch_and_no_mirror_changes_that(registry, pulled, tmp_path):
    write_layout(tmp_path / "x", [{"a": b"1"}], architecture=Architecture.AARCH64)
    registry.push(tmp_path / "x", "arm")
    with pytest.raises(PlatformMismatch, match="linux/arm64"):
        pulled(f"{registry.address}/arm")


# Every fault in every phase: what must recover does, what cannot gives an error of ours, and afterwards all is well.

PHASES = ("token", "index", "manifest", "config", "layer")
FAULTS = {
    "cut": Fault(kind=FaultKind.CUT, after=20),
    "drop": Fault(kind=FaultKind.DROP),
    "stall": Fault(kind=FaultKind.STALL, after=20),
    "headers": Fault(kind=FaultKind.HEADERS),
    "drip": Fault(kind=FaultKind.DRIP, after=20),
    "chunk": Fault(kind=FaultKind.CHUNK, after=20),
    "429": Fault(kind=FaultKind.STATUS, status=429, headers={"Retry-After": "1"}),
    "500": Fault(kind=FaultKind.STATUS, status=500, body=b"<html>oh</html>"),
    "503": Fault(kind=FaultKind.STATUS, status=503),
    "403": Fault(kind=FaultKind.STATUS, status=403, body=b'{"errors": [{"code": "DENIED"}]}'),
    "404": Fault(kind=FaultKind.STATUS, status=404),
    "wrong byte": Fault(kind=FaultKind.WRONG, after=30),
    "endless": Fault(kind=FaultKind.ENDLESS),
    "length": Fault(kind=FaultKind.LENGTH, after=10),
    "to a file": Fault(kind=FaultKind.STATUS, status=302, headers={"Location": "file:///etc/passwd"}),
    "in a circle": Fault(kind=FaultKind.STATUS, status=302, headers={"Location": "?again"}),
}
WAITED = {"stall", "headers", "drip", "chunk"}
"""Until its time is over."""
RECOVERS = {"cut", "drop", "stall", "headers", "drip", "chunk", "429", "500", "503", "in a circle"}
"""When it happens once. A length that lies does so in documents only: a layer's size is known."""
MEANS = {
    "cut": RegistryUnreachable,
    "drop": RegistryUnreachable,
    "stall": RegistryUnreachable,
    "headers": RegistryUnreachable,
    "drip": RegistryUnreachable,
    "chunk": RegistryUnreachable,
    "403": AccessDenied,
    "404": ImageError,
    "wrong byte": (DigestMismatch, RegistryError),
    "endless": (RegistryError, ImageInvalid),
    "length": (RegistryUnreachable, ImageInvalid),
}


@pytest.fixture(scope="module")
def platforms(tmp_path_factory):
    directory = tmp_path_factory.mktemp("platforms")
    images = {
        architecture: write_layout(
            directory, [{"a": b"1", "b": b"2" * 3000}, {"a": b"3", "c": b"4"}], tag=None, architecture=architecture,
            compression="none",
        )
        for architecture in Architecture
    }  # fmt: skip
    write_index(directory, images)
    return directory


def request_of(phase, registry):
    if phase == "token":
        return "GET /token"
    if phase == "index":
        return "GET /v2/app/manifests/latest"
    if phase == "manifest":
        return "GET /v2/app/manifests/sha256"
    index = json.loads(registry.manifests["app", "latest"][0])
    value = json.loads(registry.manifests["app", index["manifests"][0]["digest"]][0])
    return "/blobs/" + (value["config"] if phase == "config" else value["layers"][0])["digest"]


@pytest.mark.parametrize("times", [1, 0], ids=["once", "always"])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_in_every_phase(platforms, pulled, store, patience, soon, fault, phase, times):
    always = replace(soon, read=0.1, document=0.2, window=0.1)
    bounds = patience if fault not in WAITED else soon if times else always
    with Registry(authentication="token") as registry:
        registry.push(platforms, "app")
        armed = replace(FAULTS[fault], request=request_of(phase, registry), times=times)
        registry.arm(armed)
        recovers = times == 1 and (fault in RECOVERS or (fault == "length" and phase != "layer"))
        if recovers or (fault == "endless" and phase == "layer"):  # which is read as far as its size tells
            assert pulled(f"{registry.address}/app", bounds=bounds)[1] == FILES
        else:
            with pytest.raises(MEANS.get(fault, RegistryError)) as caught:
                pulled(f"{registry.address}/app", bounds=bounds)
            assert isinstance(caught.value, PropolisError)
            assert len(str(caught.value)) < 400
            assert "\n" not in str(caught.value) + caught.value.hint
        assert len(registry.requests) < 40
        registry.faults.clear()
        assert pulled(f"{registry.address}/app")[1] == FILES
    assert not [path for path in store.tags.parent.rglob(".*") if path.is_file()], "nothing staged, nothing partial"
