"""An image made ready to run: fetched, verified, its disks cached. What `launch` does before there is a machine."""

from functools import partial
from pathlib import Path

from propolis.disk.cache import LayerCache
from propolis.host.directories import cache_directory
from propolis.hypervisor import registry
from propolis.image.manifest import Platform
from propolis.image.opening import open_image
from propolis.image.platforms import parse_platform, platform_of
from propolis.image.source import Image
from propolis.image.store import BlobStore
from propolis.images.opening import open_held
from propolis.machine.conversion import layer_disks
from propolis.machine.options import pull_policy
from propolis.progress import Reporter, Silent
from propolis.spec import Architecture, PullPolicy
from propolis.state.leases import Lease


def pull(
    image: str,
    *,
    policy: PullPolicy | str = PullPolicy.ALWAYS,
    backend: str | None = None,
    signature_policy: str | Path | None = None,
    platform: str | None = None,
    reporter: Reporter | None = None,
) -> Image:
    """Fetch `image`, so that machines of `backend` (by default the usual one) start from the cache alone.

    Args:
        image: reference of the image, as on the command line.
        policy: when a registry is asked.
        backend: for whose machines disks are made.
        platform: `linux/ARCHITECTURE[/VARIANT]`, which need not be one that this host runs.
        signature_policy: a file that says which images may be used, in place of this host's own, if it has one.
        reporter: hears of progress.

    Raises:
        InvalidArgument: the reference, the policy or the platform is none.
        ImageError: it is not there, not for this host, not allowed by `signature_policy` (by default this host's, if it
            has one), or broken; RegistryError and SignatureRejected among them.
        DiskError: its disks cannot be made.
        BackendUnavailable: no backend, so nobody knows which disks are needed.
    """
    reporter = reporter or Silent()
    chosen, _ = registry.choose(backend)
    cache = cache_directory()
    reporter.begin("open image")
    wanted = platform_for(platform, chosen.capabilities.architectures[0])
    store, trusted = BlobStore(cache / "blobs"), None if signature_policy is None else Path(signature_policy)
    to_open = partial(
        open_image, image, wanted, store, pull_policy(policy), signature_policy=trusted, reporter=reporter
    )
    with Lease(cache) as lease, open_held(to_open, cache, lease) as opened:
        reporter.end("open image")
        reporter.begin("prepare disks")
        layer_disks(opened, LayerCache(cache / "layers"), chosen.capabilities.disk_formats[0], reporter)
        reporter.end("prepare disks")
    return opened


def platform_for(given: str | None, architecture: Architecture) -> Platform:
    """The platform that is asked for, or else any variant of linux on `architecture`.

    Raises:
        InvalidArgument: it is none, or not one of linux.
    """
    return parse_platform(given) if given else platform_of(architecture)
