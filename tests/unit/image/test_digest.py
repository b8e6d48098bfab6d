import pytest

from propolis.errors import ImageInvalid
from propolis.image import digest as digests


def test_sha256_and_sha512_are_split_and_hashed():
    for algorithm, length in (("sha256", 64), ("sha512", 128)):
        hashed = digests.hasher(f"{algorithm}:{'0' * length}")
        hashed.update(b"content")
        digest = f"{algorithm}:{hashed.hexdigest()}"
        assert digests.split(digest, "x") == (algorithm, hashed.hexdigest())
        assert digests.matches(b"content", digest)
        assert not digests.matches(b"Content", digest)


@pytest.mark.parametrize(
    "text", ["md5:" + "a" * 32, "sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha256", "", "sha256:../x"]
)
def test_other_digests_are_refused(text):
    assert not digests.is_digest(text)
    with pytest.raises(ImageInvalid, match="here is"):
        digests.split(text, "here")
