r"""Which files Hyper-V takes, and which it refuses without saying why: judged from path and attributes. Pure.

The worker process of a machine runs as an account of its own, which has no mapped drives and no network; it takes no
`\\?\` paths, and refuses disk files that NTFS keeps sparse, compressed or encrypted, or ReFS with an integrity stream.
"""

from pathlib import PureWindowsPath
from typing import NamedTuple

MOST_PATH = 259
"""Characters of a path; longer ones only work with a prefix that is refused."""

FILE_ATTRIBUTE_SPARSE_FILE = 0x200
FILE_ATTRIBUTE_COMPRESSED = 0x800
FILE_ATTRIBUTE_ENCRYPTED = 0x4000
FILE_ATTRIBUTE_INTEGRITY_STREAM = 0x8000
_ELSEWHERE = 0x1000 | 0x40000 | 0x400000
"""Offline, recalled when it is opened, or when it is read: OneDrive and its kin."""


class Objection(NamedTuple):
    """Why a file is refused, and what to do."""

    reason: str
    cure: str


def objection_to_path(path: str, resolved: str) -> Objection | None:
    """What is wrong with a path; `resolved` is where it really leads, which shows mapped drives."""
    local = "keep it on a drive of this host; PROPOLIS_CACHE and PROPOLIS_DATA say where propolis keeps its own"
    if path.startswith(("\\\\?\\", "\\\\.\\", "//?/", "//./")):
        return Objection("is named with a prefix that Hyper-V refuses", "name it by its drive letter")
    pure = PureWindowsPath(path)
    if _is_remote(path) or _is_remote(resolved):
        return Objection("lies on a network drive, where virtual machines have no access", local)
    if not pure.is_absolute():
        return Objection("is no absolute path with a drive letter", "name it by its drive letter")
    if len(path) > MOST_PATH:
        return Objection(f"has a path of {len(path)} characters, more than {MOST_PATH}", "move it nearer to the root")
    return None


def objection_to_attributes(attributes: int) -> Objection | None:
    """What is wrong with a disk file's attributes."""
    if attributes & FILE_ATTRIBUTE_SPARSE_FILE:
        return Objection("is sparse, which Hyper-V refuses", "run `fsutil sparse setflag FILE 0`, or copy it")
    if attributes & FILE_ATTRIBUTE_COMPRESSED:
        return Objection("is compressed by NTFS, which Hyper-V refuses", "run `compact /u FILE`, also on its folder")
    if attributes & FILE_ATTRIBUTE_ENCRYPTED:
        return Objection("is encrypted by NTFS, which Hyper-V refuses", "run `cipher /d FILE`, also on its folder")
    if attributes & FILE_ATTRIBUTE_INTEGRITY_STREAM:
        return Objection(
            "has an integrity stream of ReFS, which Hyper-V refuses",
            "run `Set-FileIntegrity FILE -Enable $false` in PowerShell, also on its folder",
        )
    if attributes & _ELSEWHERE:
        return Objection(
            "is kept by OneDrive or the like, and not on this host, where virtual machines look for it",
            "choose `Always keep on this device` for it, or copy it elsewhere",
        )
    return None


def _is_remote(path: str) -> bool:
    return PureWindowsPath(path.replace("\\\\?\\UNC\\", "\\\\").removeprefix("\\\\?\\")).drive.startswith("\\\\")
