import json

import pytest

from propolis.errors import ImageInvalid, PlatformMismatch
from propolis.image import manifest as m
from propolis.image.digest import of
from propolis.image.manifest import Descriptor, Platform
from propolis.image.platforms import parse_platform
from propolis.image.selection import select


class Documents:
    """Blobs by digest, without verification, so that an index can contain itself."""

    def __init__(self):
        self.blobs = {}

    def put(self, document, media_type, platform=None, digest=None):
        data = json.dumps(document).encode()
        digest = digest or of(data)
        self.blobs[digest] = data
        return Descriptor(media_type=media_type, digest=digest, size=len(data), platform=platform)

    def image(self, architecture, variant="", os="linux", told=True):
        config = {"os": os, "architecture": architecture, "rootfs": {"diff_ids": []}, "x": variant}
        if not told:
            config["variant"] = variant
        described = self.put(config, m.OCI_CONFIG)
        platform = Platform(os=os, architecture=architecture, variant=variant) if told else None
        document = {"schemaVersion": 2, "config": as_json(described), "layers": []}
        return self.put(document, m.OCI_MANIFEST, platform)

    def index(self, *items, digest=None):
        return self.put({"schemaVersion": 2, "manifests": [as_json(item) for item in items]}, m.OCI_INDEX, None, digest)

    def select(self, *candidates, wanted="linux/amd64"):
        return select(candidates, parse_platform(wanted), lambda item: self.blobs[item.digest], "the image").descriptor


def as_json(item):
    document = {"mediaType": item.media_type, "digest": item.digest, "size": item.size}
    if item.platform:
        document["platform"] = {
            "os": item.platform.os,
            "architecture": item.platform.architecture,
            "variant": item.platform.variant,
        }
    return document


@pytest.fixture
def documents():
    return Documents()


@pytest.mark.parametrize("name", ["amd64", "x86_64"])
def test_the_wanted_architecture_is_found_under_both_its_names(documents, name):
    wanted, other = documents.image(name), documents.image("arm64", "v8")
    assert documents.select(documents.index(other, wanted)) == wanted
    assert documents.select(documents.index(wanted, other), wanted="arm64") == other


def test_the_least_demanding_variant_wins(documents):
    plain, v3, v2 = documents.image("amd64"), documents.image("amd64", "v3"), documents.image("amd64", "v2")
    assert documents.select(documents.index(v3, v2, plain)) == plain
    assert documents.select(documents.index(v3, v2)) == v2


def test_a_variant_that_is_asked_for_is_that_one_or_none(documents):
    plain, v3, v2 = documents.image("amd64"), documents.image("amd64", "v3"), documents.image("amd64", "v2")
    index = documents.index(v3, v2, plain)
    assert documents.select(index, wanted="linux/amd64/v2") == v2
    assert documents.select(index, wanted="linux/amd64/v3") == v3
    assert documents.select(index, wanted="linux/amd64/v1") == plain
    with pytest.raises(PlatformMismatch, match=r"linux/amd64/v2, .*not for linux/amd64/v4") as caught:
        documents.select(index, wanted="linux/amd64/v4")
    assert "--override-variant v4" in caught.value.hint


def test_variants_of_arm_have_many_spellings(documents):
    v8, v9 = documents.image("arm64", "8"), documents.image("aarch64", "v9")
    for text in ("arm64", "linux/arm64/v8", "linux/aarch64/8"):
        assert documents.select(documents.index(v9, v8), wanted=text) == v8
    with pytest.raises(PlatformMismatch):
        documents.select(documents.index(v9), wanted="linux/arm64/v8")
    assert documents.select(documents.index(v9), wanted="arm64") == v9


def test_a_config_tells_the_variant_where_no_index_does(documents):
    v2 = documents.image("amd64", "v2", told=False)
    assert documents.select(v2, wanted="linux/amd64/v2") == v2
    with pytest.raises(PlatformMismatch, match="is for linux/amd64/v2, not for linux/amd64/v3"):
        documents.select(v2, wanted="linux/amd64/v3")


def test_an_architecture_without_guests_is_found_too(documents):
    wanted = documents.image("s390x")
    assert documents.select(documents.index(documents.image("amd64"), wanted), wanted="s390x") == wanted


def test_a_manifest_that_tells_no_platform_is_judged_by_its_config(documents):
    arm, amd = documents.image("arm64", told=False), documents.image("amd64", told=False)
    assert documents.select(arm, amd).digest == amd.digest


def test_attestations_are_no_platform(documents):
    attestation = documents.image("unknown", os="unknown")
    with pytest.raises(PlatformMismatch, match="is for linux/arm64/v8, windows/amd64, not for linux/amd64") as caught:
        documents.select(attestation, documents.image("arm64", "v8"), documents.image("amd64", os="windows"))
    assert "another tag" in caught.value.hint and "--override-arch amd64" in caught.value.hint


def test_a_single_image_for_another_architecture_is_a_mismatch(documents):
    with pytest.raises(PlatformMismatch, match="linux/s390x"):
        documents.select(documents.image("s390x", told=False))


def test_four_nested_indexes_are_followed_and_a_fifth_is_not(documents):
    item = image = documents.image("amd64")
    for _ in range(4):
        item = documents.index(item)
    assert documents.select(item) == image
    with pytest.raises(ImageInvalid, match="nested more than 4"):
        documents.select(documents.index(item))


def test_an_index_that_contains_itself_is_refused(documents):
    digest = "sha256:" + "5" * 64
    loop = Descriptor(media_type=m.OCI_INDEX, digest=digest, size=1)
    documents.index(documents.index(loop), digest=digest)
    with pytest.raises(ImageInvalid, match="contains itself"):
        documents.select(loop)


def test_the_search_is_bounded(documents):
    images = [documents.image(f"mips{number}", told=False) for number in range(100)]
    with pytest.raises(ImageInvalid, match="more than 64 documents"):
        documents.select(*images)


def test_something_that_is_no_image_is_refused(documents):
    with pytest.raises(ImageInvalid, match="'text/plain', which is no image"):
        documents.select(documents.put({}, "text/plain"))


def test_however_long_a_platform_is_called_the_message_is_not():
    documents = Documents()
    items = [documents.image(f"{number}" * 100_000) for number in range(9)]
    with pytest.raises(PlatformMismatch) as caught:
        documents.select(documents.index(*items))
    assert len(str(caught.value)) < 1000
