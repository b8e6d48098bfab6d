"""Where propolis keeps its files on this host.

`PROPOLIS_CACHE` (what can be made, pulled or loaded again: blobs, layer disks, kernels), `PROPOLIS_DATA` (machines and
their records) and `PROPOLIS_CONFIG` (what the user writes) override the system's conventions.
"""

import os
from pathlib import Path

import platformdirs


def cache_directory() -> Path:
    """What can be made again: blobs, layer disks, kernels. Not created here."""
    return _chosen("PROPOLIS_CACHE") or platformdirs.user_cache_path("propolis", appauthor=False)


def data_directory() -> Path:
    """Machines and their records. Not created here."""
    return _chosen("PROPOLIS_DATA") or platformdirs.user_data_path("propolis", appauthor=False)


def configuration_directory() -> Path:
    """What the user writes. Never created by us."""
    return _chosen("PROPOLIS_CONFIG") or platformdirs.user_config_path("propolis", appauthor=False)


def _chosen(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).absolute() if value else None
