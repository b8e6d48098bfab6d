import pytest

from propolis.errors import ImageNotFound
from propolis.images.opening import reference_of

A = "example.org/a:1"


@pytest.mark.parametrize("text", ["a", "cafe", "oci:x", "docker.io/library/a@sha256:" + "0" * 64, "", "-", "0" * 12])
def test_what_identifies_no_image_of_this_host_is_left_as_it_is(store, text):
    store.image(A, [{"one": b"1"}])
    assert reference_of(text, store.cache) == text


def test_an_identifier_as_listed_is_an_image_of_this_host(store):
    digest = store.image(A, [{"one": b"1"}])
    value = digest.partition(":")[2]
    for text in (digest, value, value[:12], digest[:19]):
        assert reference_of(text, store.cache) == f"docker://example.org/a@{digest}"
    assert reference_of(value[:11], store.cache) == value[:11]  # which may be a name in a registry


def test_what_lies_at_that_path_or_has_that_name_comes_first(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = store.image(A, [{"one": b"1"}]).partition(":")[2][:12]
    (tmp_path / value).mkdir()
    assert reference_of(value, store.cache) == value
    (tmp_path / value).rmdir()
    store.image(f"docker.io/library/{value}:latest", [{"two": b"2"}])
    assert reference_of(value, store.cache) == value


def test_an_image_without_a_name_has_to_be_given_one(store):
    value = store.image("", [{"one": b"1"}]).partition(":")[2][:12]
    with pytest.raises(ImageNotFound, match="no name here") as caught:
        reference_of(value, store.cache)
    assert caught.value.hint == f"give it one: propolis tag {value} NAME"
