"""The images of this host as a whole: listed, looked into, named, saved, loaded, removed, collected.

Public: these functions, imported at first use. All of them do byte work and block; in an event loop, call them in a
thread. Where images are kept is `PROPOLIS_CACHE`, or else the system's place for caches.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from propolis.images.catalog import ImageSummary as ImageSummary
    from propolis.images.catalog import inspect as inspect
    from propolis.images.catalog import list_images as list  # noqa: A004
    from propolis.images.catalog import tag as tag
    from propolis.images.collection import Collected as Collected
    from propolis.images.collection import prune as prune
    from propolis.images.collection import remove as remove
    from propolis.images.loading import Loaded as Loaded
    from propolis.images.loading import load as load
    from propolis.images.saving import save as save
    from propolis.images.space import Usage as Usage
    from propolis.images.space import usage as usage

_HOMES = {
    "Collected": ("collection", "Collected"),
    "ImageSummary": ("catalog", "ImageSummary"),
    "Loaded": ("loading", "Loaded"),
    "Usage": ("space", "Usage"),
    "inspect": ("catalog", "inspect"),
    "list": ("catalog", "list_images"),
    "load": ("loading", "load"),
    "prune": ("collection", "prune"),
    "remove": ("collection", "remove"),
    "save": ("saving", "save"),
    "tag": ("catalog", "tag"),
    "usage": ("space", "usage"),
}

__all__ = [
    "Collected",
    "ImageSummary",
    "Loaded",
    "Usage",
    "inspect",
    "list",
    "load",
    "prune",
    "remove",
    "save",
    "tag",
    "usage",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        home, inner = _HOMES[name]
        return getattr(import_module(f"propolis.images.{home}"), inner)
    raise AttributeError(f"module 'propolis.images' has no attribute {name!r}")
