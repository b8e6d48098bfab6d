"""Images in a store of this host, as a pull leaves them, for tests of what is done with them."""

import json

from propolis.disk.cache import LayerCache
from propolis.hypervisor import registry
from propolis.image import digest as digests
from propolis.image.layers import unpack
from propolis.image.manifest import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Layer
from propolis.image.store import BlobStore
from propolis.image.tags import TagRecords
from propolis.spec import DiskFormat
from propolis.testing.backend import MemoryBackend
from propolis.testing.images import layer_tar


class Store:
    """The store below `cache`."""

    def __init__(self, cache):
        self.cache = cache
        self.blobs = BlobStore(cache / "blobs")
        self.tags = TagRecords(self.blobs.tags)
        self.layers = LayerCache(cache / "layers")

    def blob(self, data):
        digest = digests.of(data)
        self.blobs.add(digest, len(data), (data,))
        return digest

    def image(self, name, trees, *, fetched=False, disks=True, blobs=True, config=None):
        """Put an image of these layers there; returns its digest. `name` may be empty."""
        tars = [layer_tar(tree) for tree in trees]
        described = [{"mediaType": OCI_LAYER, "digest": digests.of(tar), "size": len(tar)} for tar in tars]
        if blobs:
            for tar in tars:
                self.blob(tar)
        document = {
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-01-02T03:04:05Z",
            "config": config or {"Cmd": ["/x"]},
            "rootfs": {"type": "layers", "diff_ids": [digests.of(tar) for tar in tars]},
        }
        data = json.dumps(document).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": self.blob(data), "size": len(data)},
            "layers": described,
        }
        digest = self.blob(json.dumps(manifest).encode())
        if disks:
            for number, tar in enumerate(tars):
                self.disk([digests.of(below) for below in tars[: number + 1]], tar)
        if name:
            self.tags.keep(name, digest, is_fetched=fetched)
        return digest

    def disk(self, diff_ids, tar, disk_format=DiskFormat.RAW):
        import io

        layer = Layer(digest=diff_ids[-1], size=len(tar), media_type=OCI_LAYER, diff_id=diff_ids[-1])
        return self.layers.disk(diff_ids, disk_format, lambda sink: unpack(io.BytesIO(tar), layer, sink))

    def files(self):
        """Every file there is, but for locks."""
        found = [path for path in self.cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
        return sorted(path.relative_to(self.cache).as_posix() for path in found)


def store_below(directory, monkeypatch):
    """A store of the test's own, which this process uses, with machines in memory."""
    for name in ("CACHE", "DATA", "CONFIG"):
        monkeypatch.setenv(f"PROPOLIS_{name}", str(directory / name.lower()))
    monkeypatch.setattr(registry, "_BUILT_IN", {"memory": MemoryBackend})
    return Store(directory / "cache")
