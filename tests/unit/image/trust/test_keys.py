import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from propolis.errors import InvalidArgument
from propolis.image.trust.keys import load_key
from propolis.image.trust.policy import Key


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "rsa", "ed25519"])
def test_each_kind_knows_its_own_signatures(signer, kind):
    ours, other = signer(kind), signer(kind)
    for key in (Key(path=ours.path), Key(data=ours.pem)):
        verify = load_key(key)
        assert verify(ours(b"data"), b"data")
        assert not verify(ours(b"data"), b"date")
        assert not verify(other(b"data"), b"data")
        for broken in (b"", b"\0" * 64, ours(b"data")[:-1], b"\x30\x06\x02\x01\x00\x02\x01\x00", b"\xff" * 3000):
            assert not verify(broken, b"data")


def public(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: b"", "no public key"),
        (lambda: b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"),
        (lambda: public(rsa.generate_private_key(65537, 1024)), "not supported"),
        (lambda: public(dsa.generate_private_key(1024)), "not supported"),
        (lambda: public(x25519.X25519PrivateKey.generate()), "not supported"),
        (lambda: public(ec.generate_private_key(ec.SECP256K1())), "not supported"),
        (lambda: base64.b64decode("MFkwEwYHKoZIzj0CAQ=="), "no public key"),
    ],
)
def test_what_is_no_key_that_counts_says_so(make, words, tmp_path):
    (tmp_path / "key.pub").write_bytes(make())
    with pytest.raises(InvalidArgument, match=words) as caught:
        load_key(Key(path=tmp_path / "key.pub"))
    assert "key.pub" in str(caught.value)


def test_a_private_key_in_place_of_the_public_one_is_told():
    key = ec.generate_private_key(ec.SECP256R1())
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(InvalidArgument) as caught:
        load_key(Key(data=data))
    assert "private" in caught.value.hint


def test_a_key_that_is_missing_is_told(tmp_path):
    with pytest.raises(InvalidArgument, match="No such file"):
        load_key(Key(path=tmp_path / "nosuch.pub"))
