"""A kernel made ready: a directory in the cache that holds all a guest needs of one kernel.

    <release>-<origin>/   kernel        the image, decompressed where that boots faster
                          modules.cpio  the needed modules and lists of their load order, an initramfs part
                          bundle.json   what it is; written like the rest before the directory takes its name

Bundles never change; one whose origin has changed is made anew beside the old one. Knows nothing of where kernels come
from.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from propolis.errors import KernelUnsuitable
from propolis.guest import cpio
from propolis.guest.features import Ability
from propolis.host import system
from propolis.host.files import STAGE_PREFIX as STAGE_PREFIX
from propolis.host.files import locked, storage_errors
from propolis.spec import Architecture

VERSION = 4
"""Of the layout and of what is done to image and modules."""
IMAGE = "kernel"
MODULES = "modules.cpio"
MANIFEST = "bundle.json"
GRACE_SECONDS = 3600.0
"""What was used this recently is not pruned: its machine may not have opened it yet."""


class Source(StrEnum):
    """Where a kernel comes from."""

    TUNED = "tuned"
    INSTALLED = "installed"
    DOWNLOADED = "downloaded"
    GIVEN = "given"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel in the cache, checked and ready to boot."""

    release: str
    architecture: Architecture
    source: Source
    origin: str
    """For people: the file or the package that it was made from."""
    image: Path
    modules: Path
    """The initramfs part with the modules."""
    module_names: tuple[str, ...]
    """In load order; empty when all is built in."""
    abilities: frozenset[Ability]
    """What its guests can do beyond what all can."""
    identity: str
    """Hexadecimal SHA-256 over image and modules."""


def modules_archive(modules: Mapping[str, bytes], lists: Mapping[str, Sequence[str]]) -> bytes:
    """The initramfs part that holds `modules`, and the files `lists` of their names in the order to load them."""
    members = [cpio.directory("modules")]
    members += [cpio.file(f"modules/{name}.ko", data) for name, data in modules.items()]
    for name, listed in lists.items():
        members.append(cpio.file(f"modules/{name}", "".join(f"{module}.ko\n" for module in listed).encode()))
    return cpio.archive(members)


def load(directory: Path) -> Kernel | None:
    """The kernel of a bundle; None when there is none, a damaged one, or one of another version."""
    try:
        document = json.loads((directory / MANIFEST).read_bytes())
        complete = (directory / IMAGE).is_file() and (directory / MODULES).is_file()
        if document["version"] != VERSION or not complete:
            return None
        return Kernel(
            release=document["release"],
            architecture=Architecture(document["architecture"]),
            source=Source(document["source"]),
            origin=document["origin"],
            image=directory / IMAGE,
            modules=directory / MODULES,
            module_names=tuple(document["modules"]),
            abilities=frozenset(map(Ability, document["abilities"])),
            identity=document["identity"],
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def ready(directory: Path, architecture: Architecture) -> Kernel | None:
    """The kernel of a bundle, if it is one for `architecture`; marked as used."""
    kernel = load(directory)
    if kernel is None or kernel.architecture is not architecture:
        return None
    touch(directory / MANIFEST)
    return kernel


def newest(kernels: Path, source: Source, architecture: Architecture) -> Kernel | None:
    """The bundle with the newest release among those in `kernels` that come from `source`."""
    there = (ready(path, architecture) for path in kernels.glob(f"{source}-*"))
    return max((kernel for kernel in there if kernel), key=lambda kernel: release_key(kernel.release), default=None)


def release_key(release: str) -> list[tuple[int, str]]:
    """A sort key: numbers by value, words by their letters, a number after a word."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.findall(r"\d+|[^\W\d]+", release)]


def store(
    directory: Path,
    *,
    release: str,
    architecture: Architecture,
    source: Source,
    origin: str,
    image: bytes,
    modules: Mapping[str, bytes],
    lists: Mapping[str, Sequence[str]],
    abilities: Collection[Ability] = (),
) -> Kernel:
    """Write a bundle as `directory`, whole or not at all. The caller holds `exclusive` on its parent.

    Raises:
        StorageFull: no room on the host.
        DiskError: the cache cannot be written to.
    """
    archive = modules_archive(modules, lists)
    document = {
        "version": VERSION,
        "release": release,
        "architecture": architecture,
        "source": source,
        "origin": origin,
        "modules": list(modules),
        "abilities": sorted(abilities),
        "identity": hashlib.sha256(hashlib.sha256(image).digest() + hashlib.sha256(archive).digest()).hexdigest(),
    }
    with storage_errors(directory), staged_directory(directory.parent) as staged:
        _write(staged / IMAGE, image)
        _write(staged / MODULES, archive)
        _write(staged / MANIFEST, json.dumps(document, indent=1).encode())
        system.sync_directory(staged)
        if directory.exists():
            # damaged, or of another version: nothing runs from it
            shutil.rmtree(directory)
        staged.rename(directory)
        system.sync_directory(directory.parent)
    kernel = load(directory)
    if kernel is None:
        raise KernelUnsuitable(f"the kernel bundle {directory} cannot be read back")
    return kernel


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Be the only one who makes bundles in `directory`; waits. Clears what writers that died have left."""
    with locked(directory / ".lock"):
        for leftover in directory.glob(f"{STAGE_PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


@contextlib.contextmanager
def staged_directory(parent: Path) -> Iterator[Path]:
    """A new private directory in `parent`, removed at the end unless it has been renamed."""
    path = parent / f"{STAGE_PREFIX}{secrets.token_hex(6)}"
    with storage_errors(path):
        path.mkdir(mode=0o700, parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def touch(path: Path) -> None:
    """Mark a file as used now, which keeps it from being pruned for a while."""
    with contextlib.suppress(OSError):
        os.utime(path)


def is_stale(path: Path) -> bool:
    """Whether nobody has used this file for a while."""
    try:
        return path.stat().st_mtime < time.time() - GRACE_SECONDS
    except OSError:
        return True


def _write(path: Path, data: bytes) -> None:
    """Write and flush; blocks of zeros become holes (a fifth of a kernel is its zeroed data)."""
    with path.open("xb") as file:
        for start in range(0, len(data), _BLOCK):
            block = data[start : start + _BLOCK]
            if block.count(0) == len(block):
                file.seek(len(block), os.SEEK_CUR)
            else:
                file.write(block)
        file.truncate(len(data))
        file.flush()
        os.fsync(file.fileno())


_BLOCK = 64 << 10
