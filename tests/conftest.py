"""Fixtures that several kinds of tests share."""

import os
import shutil
import signal
import subprocess

import pytest

import images
import zoo
from propolis.guest import apt
from propolis.progress import Silent
from propolis.spec import Architecture


def pytest_configure():
    """A shell that begins us in the background has us ignore Ctrl-C, and so would the programs that tests interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def busybox_image():
    return images.busybox()


@pytest.fixture(scope="session")
def debian_image():
    _can_make_images()
    return images.debian()


@pytest.fixture(scope="session")
def editor_image():
    _can_make_images()
    return images.editor()


@pytest.fixture(scope="session")
def toolchain_image():
    _can_make_images()
    return images.toolchain()


@pytest.fixture(scope="session")
def zoo_image(tmp_path_factory):
    """Two layers with whatever is odd, as far as umoci takes it; made anew for each run."""
    return zoo.image(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="session")
def kernel_packages(tmp_path_factory):
    """The packages of the distribution's kernel, fetched once for all tests."""
    if not apt.available():
        pytest.skip("not installed: apt")
    return [
        apt.download(part, tmp_path_factory.mktemp("package"), Silent()) for part in apt.resolve(Architecture.X86_64)
    ]


@pytest.fixture(scope="session")
def kernel_root(kernel_packages, tmp_path_factory):
    """The packages, unpacked by dpkg-deb; returns the root."""
    root = tmp_path_factory.mktemp("unpacked")
    for package in kernel_packages:
        subprocess.run(["dpkg-deb", "-x", package, root], check=True)
    return root


def _can_make_images():
    if os.geteuid() != 0:
        pytest.skip("making a Debian image with mmdebstrap and umoci needs root")
    missing = [tool for tool in ("mmdebstrap", "umoci", "setcap", "setfattr") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
