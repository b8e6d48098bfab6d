"""What atheris runs: readers of bytes that images, registries and configuration bring. `python image_bytes.py TARGET`.

Whatever the bytes, only an error of ours comes out, and not a long one. All options are libFuzzer's.
"""

import hashlib
import io
import sys
from collections.abc import Callable

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
    from propolis.image.platforms import platform_of
    from propolis.image.registry.challenge import parse_challenges
    from propolis.image.registry.configuration import parse_configuration
    from propolis.image.registry.name import parse_name
    from propolis.image.registry.retry import retry_after
    from propolis.image.registry.words import words
    from propolis.image.selection import select

from propolis.errors import ImageError, InvalidArgument
from propolis.spec import Architecture
from propolis.testing.trees import MemorySink

OURS = (ImageError, InvalidArgument)
_SEPARATOR = b"\0\0"
AMD64 = platform_of(Architecture.X86_64)


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


TARGETS: dict[str, Callable[[bytes], None]] = {"documents": documents, "layers": layers, "texts": texts}


def _one(call: Callable[[], object]) -> None:
    try:
        call()
    except OURS as error:
        assert len(str(error)) < 2000, str(error)


if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
