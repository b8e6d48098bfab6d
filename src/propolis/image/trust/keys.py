"""Public keys, and whether one of them made a signature: ECDSA and RSA (PKCS #1 v1.5) over SHA-256, Ed25519.

As cosign and containers/image have it. Reads key files. Loads cryptography, hence is imported late.
"""

from collections.abc import Callable

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from propolis.errors import InvalidArgument
from propolis.image.trust.policy import Key

_MAX_KEY = 64 << 10
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_LEAST_RSA = 2048

Verifier = Callable[[bytes, bytes], bool]
"""Tells of a signature and what it is of whether the key made it."""


def load_key(key: Key) -> Verifier:
    """A key's verifier.

    Raises:
        InvalidArgument: the file cannot be read, or is no public key of a kind that is supported.
    """
    what = str(key.path) if key.path is not None else "a key in the signature policy"
    data = key.data
    if key.path is not None:
        try:
            with key.path.open("rb") as file:
                data = file.read(_MAX_KEY + 1)
        except OSError as error:
            raise InvalidArgument(
                f"cannot read the key {what}: {error.strerror}", hint="name a public key in the signature policy"
            ) from error
    try:
        public = load_pem_public_key(data[: _MAX_KEY + 1])
    except (ValueError, UnsupportedAlgorithm):
        hint = "it is a private key; keep it away from here" if b"PRIVATE KEY" in data else ""
        raise InvalidArgument(f"{what} is no public key in PEM", hint=hint or "as cosign.pub is") from None
    if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, _CURVES):
        return lambda signature, signed: _verified(lambda: public.verify(signature, signed, ec.ECDSA(SHA256())))
    if isinstance(public, rsa.RSAPublicKey) and public.key_size >= _LEAST_RSA:
        return lambda signature, signed: _verified(
            lambda: public.verify(signature, signed, padding.PKCS1v15(), SHA256())
        )
    if isinstance(public, ed25519.Ed25519PublicKey):
        return lambda signature, signed: _verified(lambda: public.verify(signature, signed))
    raise InvalidArgument(
        f"{what} is of a kind that is not supported",
        hint=f"ECDSA with P-256, P-384 or P-521, RSA from {_LEAST_RSA} bits on, and Ed25519 are",
    )


def _verified(verify: Callable[[], None]) -> bool:
    try:
        verify()
    except InvalidSignature:
        return False
    return True
