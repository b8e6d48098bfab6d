"""Makes small OCI image layouts from Python values: for tests, demonstrations, and images of a single program.

Pure Python and deterministic: the same call gives the same bytes. Follows image-layout.md of the OCI image
specification 1.1. A layout that exists already is added to. Not meant for large layers, which are held in memory.
"""

import gzip
import io
import json
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from propolis.host.files import write_atomically
from propolis.image import digest as digests
from propolis.image.compression import Compression
from propolis.image.manifest import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Layer
from propolis.spec import Architecture

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_GO_NAMES = {Architecture.X86_64: "amd64", Architecture.AARCH64: "arm64"}
_SUFFIX = {Compression.NONE: "", Compression.GZIP: "+gzip", Compression.ZSTD: "+zstd"}
_REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A regular file of a layer."""

    content: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: float = 0
    xattrs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A directory of a layer."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link of a layer."""

    target: str


@dataclass(frozen=True, slots=True)
class Hardlink:
    """Another name for a file that comes earlier in the layer."""

    target: str


Node = File | Directory | Symlink | Hardlink | bytes
"""What lies at a path of a layer; bytes are a File with that content."""
Tree = Mapping[str, Node]


def layer_tar(tree: Tree) -> bytes:
    """An uncompressed layer with the given nodes by path, in order. Whiteouts are files named `.wh.NAME`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, node in tree.items():
            member, content = _member(path, node)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def describe_layer(blob: bytes, tar: bytes | None = None, compression: Compression | str = Compression.NONE) -> Layer:
    """The value that names a layer's blob; `tar` is what it holds when it is compressed."""
    media_type = OCI_LAYER + _SUFFIX[Compression(compression)]
    diff_id = digests.of(blob if tar is None else tar)
    return Layer(digest=digests.of(blob), size=len(blob), media_type=media_type, diff_id=diff_id)


def write_layout(
    directory: Path,
    layers: Sequence[bytes | Tree],
    *,
    config: Mapping[str, Any] | None = None,
    tag: str | None = "latest",
    compression: Compression | str = Compression.GZIP,
    architecture: Architecture = Architecture.X86_64,
) -> str:
    """Add an image to the OCI layout `directory`, which is made when missing; returns the manifest's digest.

    Args:
        directory: the layout.
        layers: lowest first; each an uncompressed tar or a tree as `layer_tar` takes it.
        config: the image's `config` object, for example `{"Cmd": ["sh"], "Env": ["A=b"]}`.
        tag: its name in the layout, taken away from an image that has it; None leaves it out of index.json, for
            `write_index`.
        compression: of every layer.
        architecture: what its programs are for.

    Raises:
        StorageFull, DiskError: the directory cannot be written to.
    """
    compression = Compression(compression)
    tars = [layer if isinstance(layer, bytes) else layer_tar(layer) for layer in layers]
    blobs = [_compressed(tar, compression) for tar in tars]
    document = {
        "architecture": _GO_NAMES[architecture],
        "os": "linux",
        "config": dict(config or {}),
        "rootfs": {"type": "layers", "diff_ids": [digests.of(tar) for tar in tars]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": write_blob(directory, _json(document), OCI_CONFIG),
        "layers": [write_blob(directory, blob, OCI_LAYER + _SUFFIX[compression]) for blob in blobs],
    }
    described = write_blob(directory, _json(manifest), OCI_MANIFEST)
    _list_in_index(directory, described, tag)
    return str(described["digest"])


def write_index(directory: Path, manifests: Mapping[Architecture, str], *, tag: str = "latest") -> str:
    """Join images of the layout, given by manifest digest, into one multi-platform image; returns its digest."""
    items = []
    for architecture, digest in manifests.items():
        algorithm, _, value = digest.partition(":")
        size = (directory / "blobs" / algorithm / value).stat().st_size
        platform = {"os": "linux", "architecture": _GO_NAMES[architecture]}
        items.append({"mediaType": OCI_MANIFEST, "digest": digest, "size": size, "platform": platform})
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": items}
    described = write_blob(directory, _json(index), OCI_INDEX)
    _list_in_index(directory, described, tag)
    return str(described["digest"])


def write_blob(directory: Path, data: bytes, media_type: str) -> dict[str, Any]:
    """Put one blob into the layout; returns its descriptor."""
    digest = digests.of(data)
    write_atomically(directory / "blobs" / "sha256" / digest.partition(":")[2], data, durable=False)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def _list_in_index(directory: Path, described: Mapping[str, Any], tag: str | None) -> None:
    marker = directory / "oci-layout"
    if not marker.exists():
        write_atomically(marker, _json({"imageLayoutVersion": "1.0.0"}), durable=False)
    path = directory / "index.json"
    listed = json.loads(path.read_bytes())["manifests"] if path.exists() else []
    if tag is not None:
        listed = [item for item in listed if item.get("annotations", {}).get(_REF_NAME) != tag]
        listed.append({**described, "annotations": {_REF_NAME: tag}})
    write_atomically(path, _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}), durable=False)


def _member(path: str, node: Node) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(path)
    content = b""
    match node:
        case bytes():
            return _member(path, File(content=node))
        case File():
            content = node.content
            member.size, member.mode, member.mtime = len(content), node.mode, node.mtime
            member.uid, member.gid = node.uid, node.gid
            member.pax_headers = {f"SCHILY.xattr.{name}": value for name, value in node.xattrs.items()}
        case Directory():
            member.type, member.mode, member.uid, member.gid = tarfile.DIRTYPE, node.mode, node.uid, node.gid
        case Symlink():
            member.type, member.mode, member.linkname = tarfile.SYMTYPE, 0o777, node.target
        case Hardlink():
            member.type, member.linkname = tarfile.LNKTYPE, node.target
    return member, content


def _compressed(data: bytes, compression: Compression) -> bytes:
    if compression is Compression.GZIP:
        return gzip.compress(data, 6, mtime=0)
    return zstd.compress(data) if compression is Compression.ZSTD else data


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1).encode()
