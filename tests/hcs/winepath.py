"""Paths as a Windows program under Wine has them, where they lie on this host.

A drive is a link `dosdevices/x:` of the prefix; names are found whatever their case, as Wine finds them. A path that
begins with a slash is this host's own.
"""

from pathlib import Path, PureWindowsPath


def to_host(path: str, prefix: Path | None) -> Path:
    """The host's path for `path`.

    Raises:
        ValueError: it is not absolute, or names a drive that the prefix does not have.
    """
    if path.startswith("/"):
        return Path(path)
    windows = PureWindowsPath(path)
    if not windows.is_absolute() or len(windows.drive) != 2:
        raise ValueError(f"{path} is not an absolute path with a drive")
    place = _drive(windows.drive.lower(), prefix)
    for name in windows.parts[1:]:
        place = _entry(place, name)
    return place


def _drive(drive: str, prefix: Path | None) -> Path:
    link = prefix / "dosdevices" / drive if prefix is not None else None
    if link is not None and link.exists():
        return link.resolve()
    if drive == "z:":
        return Path("/")
    raise ValueError(f"the Wine prefix {prefix} has no drive {drive}")


def _entry(directory: Path, name: str) -> Path:
    exact = directory / name
    if exact.exists():
        return exact
    try:
        return next((entry for entry in directory.iterdir() if entry.name.casefold() == name.casefold()), exact)
    except OSError:
        return exact
