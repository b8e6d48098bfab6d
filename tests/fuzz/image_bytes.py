"""What atheris runs: readers of bytes that images, registries and configuration bring. `python image_bytes.py TARGET`.

Whatever the bytes, only an error of ours comes out, and not a long one. All options are libFuzzer's.
"""

import contextlib
import hashlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["propolis.image"]):
    from propolis.image.compression import Compression
    from propolis.image.layers import push_archive, unpack
    from propolis.image.manifest import (
        Layer,
        layer_type,
        media_type_of,
        pair_layers,
        parse_config,
        parse_index,
        parse_manifest,
    )
    from propolis.image.platforms import parse_platform, platform_of
    from propolis.image.ranges import Claim
    from propolis.image.reference import parse
    from propolis.image.registry.address import is_internal, parse_address
    from propolis.image.registry.auth import Authenticator
    from propolis.image.registry.challenge import parse_challenges
    from propolis.image.registry.configuration import parse_configuration
    from propolis.image.registry.credentials import find_credentials
    from propolis.image.registry.exchange import Exchange
    from propolis.image.registry.fetching import Fetching
    from propolis.image.registry.name import parse_name
    from propolis.image.registry.retry import Patience, retry_after
    from propolis.image.registry.words import words
    from propolis.image.selection import select
    from propolis.image.trust.policy import parse_policy
    from propolis.image.trust.signature import bundled, claim_of, read_signatures, simple

from propolis.errors import ImageError, InvalidArgument
from propolis.spec import Architecture
from propolis.testing.trees import MemorySink

OURS = (ImageError, InvalidArgument)
_SEPARATOR = b"\0\0"
AMD64 = platform_of(Architecture.X86_64)
NOWHERE = Path("/nonexistent")
BLOB = b"x" * 1000
PATIENCE = Patience(attempts=2, sleep=lambda _: None)


def documents(data: bytes) -> None:
    """An index, a manifest and a config, told apart by where they stand; each may lead to any of them."""
    parts = [*data.split(_SEPARATOR), b"", b""][:3]
    for part, parse in zip(parts, (parse_index, parse_manifest, parse_config), strict=True):
        _one(lambda part=part, parse=parse: parse(part, "what"))
    _one(lambda: media_type_of(parts[0], "what"))
    _one(lambda: pair_layers(parse_manifest(parts[1], "what"), parse_config(parts[2], "what"), "what"))
    found = iter(parts[1:] * 100)
    _one(lambda: select(parse_index(parts[0], "what"), AMD64, lambda descriptor: next(found), "what"))


def layers(data: bytes) -> None:
    """A layer, compressed as its first byte says, and an archive that is none."""
    compression = list(Compression)[data[0] % len(Compression)] if data else Compression.NONE
    blob = data[1:]
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    described = Layer(digest=digest, size=len(blob), media_type=layer_type(compression), diff_id=digest)
    _one(lambda: unpack(io.BytesIO(blob), described, MemorySink()))
    chunks = iter([memoryview(blob)])
    _one(lambda: push_archive(lambda: next(chunks, memoryview(b"")), MemorySink()))


def texts(data: bytes) -> None:
    """What stands in headers, in configuration, or is written by users."""
    written = data.decode("utf-8", "surrogateescape")
    _one(lambda: parse_challenges([written]))
    _one(lambda: parse_configuration(data, "registries.conf"))
    _one(lambda: parse_name(written))
    retry_after(written)
    words(data, frozenset({"secret"}))
    _one(lambda: parse(written, lambda _: None))
    _one(lambda: parse_platform(written))
    _one(lambda: parse_policy(data, NOWHERE / "policy.json"))
    with contextlib.suppress(ValueError):
        is_internal(parse_address(written).host)
    os.environ["DOCKER_AUTH_CONFIG"] = written.replace("\0", "")
    _one(lambda: find_credentials("a.b", "c"))


def answers(data: bytes) -> None:
    """What a registry says of a part of a blob, of where tokens are, of a token, and of signatures."""
    fields = [*data.split(_SEPARATOR), *[b""] * 4][:4]
    said, length, challenge, encoding = (field.decode("latin-1") for field in fields)
    headers = {"content-range": said, "content-length": length, "content-encoding": encoding or "identity"}
    described = Layer(digest=f"sha256:{'0' * 64}", size=len(BLOB), media_type=layer_type(Compression.NONE), diff_id="")
    for status in (200, 206):
        client = _Client(_Answer(status, headers, BLOB[100:] if status == 206 else BLOB))
        claim = Claim(100, 900)

        def fetch(client: "_Client" = client, claim: Claim = claim) -> None:
            for piece in Fetching([client], described, PATIENCE).pieces(claim):  # type: ignore[list-item]
                claim.position += len(piece)
                assert claim.position <= len(BLOB)

        _one(fetch)
    answer = _Answer(200, {}, data)
    for field in (challenge, 'Bearer realm="https://a.b/"'):
        authenticator = Authenticator(_Exchange(answer), lambda: None)
        found = []

        def ask(authenticator: Authenticator = authenticator, field: str = field, found: list[str] = found) -> None:
            found.append(authenticator.answer(parse_address("https://a.b/"), parse_challenges([field]), "s", ""))

        _one(ask)
        assert all(header.isascii() and header.isprintable() for header in found)
    _one(lambda: read_signatures(data, "what"))
    for signature in (simple(data, "eA=="), bundled(data)):
        with contextlib.suppress(ValueError):
            signature is not None and claim_of(signature)


class _Answer:
    """What the exchange would give for an answer."""

    address = parse_address("https://a.b/")

    def __init__(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.status, self.headers, self._content = status, headers, content

    def pieces(self) -> "list[bytes]":
        return [self._content[start : start + 300] for start in range(0, len(self._content), 300)]

    def body(self, limit: int) -> bytes:
        return self._content[:limit]


class _Client:
    origin = "a.b/c"

    def __init__(self, answer: _Answer) -> None:
        self._answer = answer

    def opened(self, method: str, path: str, headers: dict[str, str]) -> "contextlib.AbstractContextManager[_Answer]":
        return contextlib.nullcontext(self._answer)


class _Exchange(Exchange):
    """Goes nowhere."""

    patience, is_loopback, _allows_plain = PATIENCE, False, False

    def __init__(self, answer: _Answer) -> None:
        self._answer = answer

    def send(self, method, address, headers, form=None):  # type: ignore[no-untyped-def, override]
        return contextlib.nullcontext(self._answer)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "documents": documents,
    "layers": layers,
    "texts": texts,
    "answers": answers,
}


def _one(call: Callable[[], object]) -> None:
    try:
        call()
    except OURS as error:
        assert len(str(error)) < 2000, str(error)


if __name__ == "__main__":
    # no files of this host, and none of its programs: helpers for credentials are named in configuration
    os.environ |= {"REGISTRY_AUTH_FILE": str(NOWHERE), "PATH": str(NOWHERE)}
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
