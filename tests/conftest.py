"""Fixtures that several kinds of tests share."""

import os
import shutil

import pytest

import images


@pytest.fixture(scope="session")
def busybox_image():
    return images.busybox()


@pytest.fixture(scope="session")
def debian_image():
    if os.geteuid() != 0:
        pytest.skip("making a Debian image with mmdebstrap and umoci needs root")
    missing = [tool for tool in ("mmdebstrap", "umoci", "setcap", "setfattr") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    return images.debian()
