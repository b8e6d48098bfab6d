"""Images from a registry as a user has them: `propolis run NAME`, `propolis pull NAME`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from propolis.testing.images import write_layout
from propolis.testing.registry import Fault, FaultKind, Registry
from registries import PROGRAM, docker_registry

PROPOLIS = Path(sys.executable).with_name("propolis")

pytestmark = pytest.mark.skipif(
    shutil.which(PROGRAM) is None or shutil.which("skopeo") is None, reason="needs docker-registry and skopeo"
)


@pytest.fixture(scope="module")
def address(tmp_path_factory, busybox_image):
    with docker_registry(tmp_path_factory.mktemp("registry")) as address:
        copy = ["skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", busybox_image]
        subprocess.run([*copy, f"docker://{address}/busybox"], check=True, capture_output=True)
        yield address


@pytest.fixture
def mirrored(address, tmp_path, monkeypatch):
    """docker.io is what the registry here has below library/."""
    copy = ["skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"]
    names = [f"docker://{address}/{name}" for name in ("busybox", "library/busybox")]
    subprocess.run([*copy, *names], check=True, capture_output=True)
    (tmp_path / "registries.conf").write_text(f'[[registry]]\nprefix = "docker.io"\nlocation = "{address}"\n')
    monkeypatch.setenv("PROPOLIS_CONFIG", str(tmp_path))


def test_an_image_runs_by_its_name(cli, address):
    done = cli("run", "-q", f"{address}/busybox", "echo", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")


def test_a_short_name_is_one_of_docker_hub_wherever_that_is_mirrored(cli, mirrored):
    done = cli("run", "-q", "busybox", "echo", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")


def test_what_was_pulled_runs_without_the_network(cli, address, tmp_path):
    environment = os.environ | {"PROPOLIS_CACHE": str(tmp_path / "cache")}
    (tmp_path / "cache").mkdir()
    done = cli("pull", f"{address}/busybox", env=environment)
    assert done.returncode == 0
    shown = ["skopeo", "inspect", "--tls-verify=false", f"docker://{address}/busybox"]
    digest = json.loads(subprocess.run(shown, check=True, capture_output=True).stdout)["Digest"]
    assert done.stdout.decode() == f"docker://{address}/busybox:latest@{digest}\n"
    offline = environment | {"HTTP_PROXY": "http://127.0.0.1:1", "PROPOLIS_CONFIG": str(tmp_path)}
    (tmp_path / "registries.conf").write_text(f'[[registry]]\nlocation = "{address}"\nblocked = true\n')
    assert cli("run", "-q", "--pull", "always", f"{address}/busybox", "true", env=offline).returncode == 125
    from propolis.host.directories import cache_directory

    (tmp_path / "cache" / "kernels").symlink_to(cache_directory() / "kernels")
    for policy in ("missing", "never"):
        done = cli("run", "-q", "--pull", policy, f"{address}/busybox", "echo", policy, env=offline)
        assert (done.returncode, done.stdout) == (0, f"{policy}\n".encode()), done.stderr


def test_an_interrupted_pull_ends_at_once_and_the_next_one_goes_on(tmp_path):
    # too small for two to share it, as a slow fetch would be
    write_layout(tmp_path / "big", [{"data": os.urandom(14 << 20)}], compression="none")
    environment = os.environ | {"PROPOLIS_CACHE": str(tmp_path / "cache")}
    with Registry() as registry:
        registry.push(tmp_path / "big", "big")
        layer = max(registry.blobs, key=lambda digest: len(registry.blobs[digest]))
        registry.arm(Fault(kind=FaultKind.STALL, request=layer, times=0, after=10 << 20))
        process = subprocess.Popen([PROPOLIS, "pull", f"{registry.address}/big"], env=environment)
        until = time.monotonic() + 60
        while time.monotonic() < until and not any(
            path.stat().st_size == 10 << 20 for path in (tmp_path / "cache").rglob(".partial-*")
        ):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert process.wait() == 130
        assert time.monotonic() - began < 25
        registry.faults.clear()
        subprocess.run([PROPOLIS, "pull", f"{registry.address}/big"], env=environment, check=True)
        begun = int(registry.requests[-1].headers["range"].removeprefix("bytes=").partition("-")[0])
        assert 9 << 20 <= begun <= 10 << 20
    assert not list((tmp_path / "cache").rglob(".partial-*"))
    assert not list((tmp_path / "cache").rglob(".staged-*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "ADDRESS/nosuch"), "manifest unknown"),
        (("pull", "ADDRESS/busybox:nosuch"), "manifest unknown"),
        (("run", "--pull", "never", "ADDRESS/other"), "not to be fetched"),
        (("run", "--pull", "often", "ADDRESS/busybox"), "no pull policy"),
        (("pull", "127.0.0.1:1/x"), "no connection"),
        (("pull", "ADDRESS/Busybox"), "lower case"),
        (("pull", "ADDRESS/busybox@sha256:12"), "no digest"),
    ],
)
def test_what_cannot_be_pulled_says_so(cli, address, arguments, words):
    done = cli(*(part.replace("ADDRESS", address) for part in arguments))
    said = done.stderr.decode()
    assert done.returncode == 125
    assert words in said
    assert "Traceback" not in said
    assert len(said.splitlines()) <= 2
