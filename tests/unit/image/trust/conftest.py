import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class Signer:
    """A private key, and its public key in a file."""

    def __init__(self, key, path):
        self.key, self.path = key, path
        self.pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        path.write_bytes(self.pem)

    def __call__(self, data):
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return self.key.sign(data, ec.ECDSA(SHA256()))
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(data, padding.PKCS1v15(), SHA256())
        return self.key.sign(data)


MAKERS = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.fixture
def signer(tmp_path):
    """Makes signers by kind."""
    number = iter(range(100))
    return lambda kind="p256": Signer(MAKERS[kind](), tmp_path / f"{kind}-{next(number)}.pub")


@pytest.fixture
def policy(tmp_path):
    """Writes a policy that has one requirement for everything, or is a whole document; returns its file."""

    def write(requirement):
        document = requirement if "default" in requirement else {"default": [requirement]}
        file = tmp_path / "policy.json"
        file.write_text(json.dumps(document))
        return file

    return write
