import sys

import pytest

from propolis.errors import BackendError

pytestmark = pytest.mark.skipif(sys.platform != "win32", reason="Windows itself")


@pytest.mark.parametrize("parent", ["plain", "AppData"])
def test_what_is_reached_is_the_same_file_or_directory(tmp_path, parent):
    from propolis.hypervisor.hyperv.platform_windows import WindowsPlatform

    directory = tmp_path / parent / "d"
    directory.mkdir(parents=True)
    assert WindowsPlatform().reach(directory).samefile(directory)
    (directory / "file").write_bytes(b"x")
    for path in (directory, directory / "file"):
        reached = WindowsPlatform().reach(path)
        assert reached.samefile(path)
        assert reached.drive.endswith(":")
    with pytest.raises(BackendError, match="cannot be read"):
        WindowsPlatform().reach(directory / "missing")
