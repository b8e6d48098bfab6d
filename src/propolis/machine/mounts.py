"""What a machine sees of its host, and memory that it sees as directories: docker's spellings, checked.

Pure until `prepare`, which looks at the sources and gives what backend and guest have to be told.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from propolis.errors import InvalidArgument, Unsupported
from propolis.host.files import storage_errors
from propolis.machine.sizes import parse_size
from propolis.spec import GuestMount, Mount, Share

MOST_MOUNTS = 64
MOST_COPY = 64 << 20
"""Bytes of a read-only file that is shared as a copy, where it cannot be linked."""
_LEAST_TMPFS = 4096
_BIND = re.compile(r"(?P<source>(?:[A-Za-z]:[\\/])?[^:]*):(?P<target>[^:]+)(?::(?P<options>[^:]*))?")
_IGNORED = frozenset(("rw", "z", "Z", "cached", "delegated", "consistent", "rprivate", "private", ""))
_TMPFS_OPTIONS = frozenset(("noexec", "exec", "nosuid", "nodev", "rw", "ro"))


def parse_bind(text: str) -> Mount:
    """A mount as `docker run -v` has it: `SOURCE:TARGET[:ro]`.

    Raises:
        InvalidArgument: it is not.
        Unsupported: it names a volume.
    """
    match = _BIND.fullmatch(text)
    if match is None or not match["source"]:
        raise InvalidArgument(f"{text[:200]!r} is no mount", hint="write -v HOST_PATH:PATH or -v HOST_PATH:PATH:ro")
    options = set((match["options"] or "").split(","))
    if unknown := options - _IGNORED - {"ro"}:
        raise InvalidArgument(
            f"{text[:200]!r}: {min(unknown)!r} is no option of a mount",
            hint="ro and rw are; a path with a colon goes into --mount",
        )
    source = match["source"]
    if not re.search(r"[/\\]", source) and source not in (".", ".."):
        raise Unsupported(f"{source!r} names a volume, and there are none yet", hint=f"a directory is ./{source}")
    return Mount(source=Path(source).expanduser(), target=match["target"], read_only="ro" in options)


def parse_mount(text: str) -> Mount:
    """A mount as `docker run --mount` has it: `type=bind,source=...,target=...,readonly` or `type=tmpfs,...`.

    Raises:
        InvalidArgument: it is not.
        Unsupported: it is of a type that is not there yet.
    """
    given = dict(_pairs(text))
    kind = given.pop("type", "volume")
    if kind not in ("bind", "tmpfs"):
        raise Unsupported(f"mounts of type {kind} are not there yet", hint="type=bind and type=tmpfs are")
    source = _one_of(given, "source", "src")
    target = _one_of(given, "target", "dst", "destination")
    read_only = (_one_of(given, "readonly", "ro") or "false") in ("true", "1")
    size, mode = given.pop("tmpfs-size", None), given.pop("tmpfs-mode", "1777")
    for accepted in ("bind-propagation", "consistency"):
        given.pop(accepted, None)
    if given or target is None:
        wrong = f"{min(given)!r} is no part of it" if given else "it has no target"
        raise InvalidArgument(
            f"--mount {text[:200]!r}: {wrong}", hint="write type=bind,source=HOST_PATH,target=PATH[,readonly]"
        )
    return Mount(
        type="bind" if kind == "bind" else "tmpfs",
        source=None if source is None else Path(source).expanduser(),
        target=target,
        read_only=read_only,
        size=None if size is None else parse_size(size),
        mode=_mode(mode),
    )


def parse_tmpfs(text: str) -> Mount:
    """A mount as `docker run --tmpfs` has it: `PATH[:size=64m,mode=1777]`.

    Raises:
        InvalidArgument: it is not.
    """
    target, _, options = text.partition(":")
    given = dict(_pairs(options))
    size, mode = given.pop("size", None), given.pop("mode", "1777")
    if unknown := set(given) - _TMPFS_OPTIONS:
        raise InvalidArgument(f"--tmpfs {text[:200]!r}: {min(unknown)!r} is not known", hint="size, mode and ro are")
    size_bytes = None if size is None else parse_size(size)
    return Mount(type="tmpfs", target=target, size=size_bytes, mode=_mode(mode), read_only="ro" in given)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if name:
            yield name, value if equals else "true"


def _one_of(given: dict[str, str], *names: str) -> str | None:
    found = [given.pop(name) for name in names if name in given]
    if len(found) > 1:
        raise InvalidArgument(f"--mount says {names[0]} twice")
    return found[0] if found else None


def _mode(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise InvalidArgument(f"{text[:40]!r} is no mode", hint="write it in octal, as 1777") from None


def check(mount: Mount) -> Mount:
    """The mount itself, if there can be such a one.

    Raises:
        InvalidArgument: there cannot.
    """
    path = PurePosixPath(mount.target)
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 2 or "\0" in mount.target:
        raise InvalidArgument(f"{mount.target!r} is no place for a mount", hint="give an absolute path other than /")
    if (mount.type == "bind") is (mount.source is None):
        raise InvalidArgument(f"the mount at {mount.target} needs a source exactly if it is no tmpfs")
    if mount.size is not None and mount.size < _LEAST_TMPFS:
        raise InvalidArgument(f"a tmpfs of {mount.size} bytes holds nothing")
    if not 0 <= mount.mode <= 0o7777:
        raise InvalidArgument(f"{mount.mode:o} is no mode")
    return mount


def volumes(given: Mapping[str | Path, str] | Sequence[Mount | str]) -> tuple[Mount, ...]:
    """Mounts as a caller in Python writes them: `{source: target}`, or a sequence of `Mount` and `SOURCE:TARGET[:ro]`.

    Raises:
        InvalidArgument: one is none, or two have the same target.
    """
    if isinstance(given, Mapping):
        mounts = [parse_bind(f"{os.fspath(source)}:{target}") for source, target in given.items()]
    else:
        mounts = [mount if isinstance(mount, Mount) else parse_bind(mount) for mount in given]
    targets = [str(PurePosixPath(check(mount).target)) for mount in mounts]
    for target in targets:
        if targets.count(target) > 1:
            raise InvalidArgument(f"two mounts have the target {target}")
    if len(mounts) > MOST_MOUNTS:
        raise InvalidArgument(f"a machine has at most {MOST_MOUNTS} mounts, not {len(mounts)}")
    return tuple(mounts)


def check_sources(mounts: Iterable[Mount]) -> None:
    """See whether what is to be shared is there and can be read.

    Raises:
        InvalidArgument: it is not.
    """
    for mount in mounts:
        source = mount.source
        if source is None:
            continue
        if not source.exists():
            raise InvalidArgument(f"cannot mount {source}: there is no such file or directory on this host")
        if not os.access(source, os.R_OK | (os.X_OK if source.is_dir() else 0)):
            raise InvalidArgument(f"cannot mount {source}: you may not read it", hint="check its owner and mode")
        if not source.is_dir() and not source.is_file():
            raise InvalidArgument(f"cannot mount {source}: it is neither a file nor a directory")


def prepare(
    mounts: Iterable[Mount], directory: Path, prefix: str = ""
) -> tuple[tuple[Share, ...], tuple[GuestMount, ...]]:
    """What backend and guest have to be told; `directory` is the machine's own, for files that are shared singly.

    Tags begin with `prefix`; so does the directory of single files, which is named as its share.

    A file is shared as a hard link, so that both sides see each other's changes to it; a read-only one that cannot be
    linked (it lies on another file system), as a copy.

    Raises:
        InvalidArgument: a file can be shared neither way.
        StorageFull, DiskError: the machine's directory cannot be written to.
    """
    shares: dict[str, Share] = {}
    told: list[GuestMount] = []
    for number, mount in enumerate(mounts):
        if mount.source is None:
            told.append(_tmpfs(mount))
            continue
        source = mount.source.resolve()
        if source.is_dir():
            tag, kind, inside = f"{prefix}share{number}", "share", ""
            path = source
        else:
            tag = f"{prefix}files-ro" if mount.read_only else f"{prefix}files"
            kind, inside = "file", f"/{number}"
            path = directory / tag
            _share_file(source, path / str(number), read_only=mount.read_only)
        shares[tag] = Share(tag=tag, path=path, read_only=mount.read_only)
        told.append(GuestMount(type=kind, source=tag + inside, target=mount.target, read_only=mount.read_only))
    return tuple(shares.values()), tuple(told)


def _tmpfs(mount: Mount) -> GuestMount:
    options = f"mode={mount.mode:o}" + ("" if mount.size is None else f",size={mount.size}")
    return GuestMount(type="tmpfs", target=mount.target, options=options, read_only=mount.read_only)


def _share_file(source: Path, place: Path, *, read_only: bool) -> None:
    with storage_errors(place):
        place.parent.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(OSError):
            os.link(source, place)
            return
        if not read_only:
            raise InvalidArgument(
                f"cannot mount the file {source} writable: it cannot be linked next to the machine's own files",
                hint="mount its directory, or mount it read-only",
            )
        if source.stat().st_size > MOST_COPY:
            raise InvalidArgument(
                f"cannot mount the file {source}: it cannot be linked, nor copied ({MOST_COPY >> 20} MiB at most)",
                hint="mount its directory",
            )
        shutil.copy2(source, place)
