"""An image made ready to run: fetched, verified, its disks cached. What `launch` does before there is a machine."""

from pathlib import Path

from propolis.disk.cache import LayerCache
from propolis.host.directories import cache_directory
from propolis.hypervisor import registry
from propolis.image.source import Image
from propolis.images.opening import open_held
from propolis.machine.conversion import layer_disks
from propolis.machine.options import pull_policy
from propolis.progress import Reporter, Silent
from propolis.spec import PullPolicy
from propolis.state.leases import Lease


def pull(
    image: str,
    *,
    policy: PullPolicy | str = PullPolicy.ALWAYS,
    backend: str | None = None,
    signature_policy: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Image:
    """Fetch `image`, so that machines of `backend` (by default the usual one) start from the cache alone.

    Raises:
        InvalidArgument: the reference or the policy is none.
        ImageError: it is not there, not for this host, not allowed by `signature_policy` (by default this host's, if it
            has one), or broken; RegistryError and SignatureRejected among them.
        DiskError: its disks cannot be made.
        BackendUnavailable: no backend, so nobody knows which disks are needed.
    """
    reporter = reporter or Silent()
    chosen, _ = registry.choose(backend)
    cache = cache_directory()
    reporter.begin("open image")
    architecture = chosen.capabilities.architectures[0]
    trusted = None if signature_policy is None else Path(signature_policy)
    with Lease(cache) as lease:
        opened = open_held(image, architecture, cache, lease, pull_policy(policy), trusted)
        reporter.end("open image")
        reporter.begin("prepare disks")
        layer_disks(opened, LayerCache(cache / "layers"), chosen.capabilities.disk_formats[0], reporter)
        reporter.end("prepare disks")
    return opened
