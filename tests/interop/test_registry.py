"""Images that skopeo pushed to Debian's docker-registry come as skopeo has them: plain, by TLS, logins and proxies."""

import base64
import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time

import pytest
import trustme

from propolis.disk.cache import LayerCache
from propolis.errors import AccessDenied, RegistryUnreachable
from propolis.image.layers import unpack
from propolis.image.opening import open_image
from propolis.image.store import BlobStore
from propolis.machine.conversion import layer_disks
from propolis.progress import Silent
from propolis.spec import Architecture, DiskFormat, PullPolicy
from propolis.testing.images import write_layout
from propolis.testing.registry import Fault, FaultKind, Registry
from propolis.testing.trees import MemorySink
from registries import PROGRAM, Proxy, docker_registry

pytestmark = pytest.mark.skipif(
    shutil.which(PROGRAM) is None or shutil.which("skopeo") is None, reason="needs docker-registry and skopeo"
)
AMD64 = Architecture.X86_64


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home without logins and configuration; what /etc/containers says of short names may stay."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    directory = tmp_path / "home"
    directory.mkdir()
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("PROPOLIS_CONFIG", str(directory / "propolis"))
    return directory


@pytest.fixture(scope="module")
def ca():
    return trustme.CA()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    with docker_registry(tmp_path_factory.mktemp("plain")) as address:
        yield address


@pytest.fixture(scope="module")
def secure(tmp_path_factory, ca):
    with docker_registry(tmp_path_factory.mktemp("secure"), ca=ca, user="bob", password="hunter2") as address:
        yield address


def push(reference, address, name, *options):
    target = f"docker://{address}/{name}"
    command = ["skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", *options, reference, target]
    subprocess.run(command, check=True, capture_output=True)


def trees(image):
    """Digests of the entries of each layer."""
    found = []
    for layer in image.layers:
        sink = MemorySink()
        with image.open_layer(layer) as blob:
            unpack(blob, layer, sink)
        found.append([(entry, bytes(sink.contents.get(entry.path, b""))) for entry in sink.entries])
    return found


def opened(text, directory, policy=PullPolicy.ALWAYS):
    return open_image(text, AMD64, BlobStore(directory / "blobs"), policy)


@pytest.mark.parametrize("options", [[], ["--format", "v2s2"], ["--dest-compress-format", "zstd", "--dest-compress"]])
def test_what_skopeo_pushed_is_the_same_image(busybox_image, plain, tmp_path, options):
    push(busybox_image, plain, "busybox:v1", *options)
    here, there = opened(busybox_image, tmp_path), opened(f"{plain}/busybox:v1", tmp_path)
    assert there.config == here.config
    assert [layer.diff_id for layer in there.layers] == [layer.diff_id for layer in here.layers]
    assert trees(there) == trees(here)
    shown = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{plain}/busybox:v1"], capture_output=True, check=True
    )
    assert json.loads(shown.stdout)["Digest"] == there.digest
    assert opened(f"{plain}/busybox@{there.digest}", tmp_path).layers == there.layers


def test_a_debian_image_becomes_the_same_disks(debian_image, plain, tmp_path):
    push(debian_image, plain, "debian")
    disks = {}
    for text in (debian_image, f"{plain}/debian"):
        image = opened(text, tmp_path)
        cache = LayerCache(tmp_path / text.partition(":")[0] / "layers")
        disks[text] = [disk.path for disk in layer_disks(image, cache, DiskFormat.RAW, Silent())]
    for one, other in zip(*disks.values(), strict=True):
        assert one.name == other.name
        assert subprocess.run(["cmp", one, other], check=False).returncode == 0
    assert not list((tmp_path / "blobs").rglob(".partial-*"))


def test_tls_and_logins(busybox_image, secure, ca, home, tmp_path, monkeypatch):
    push(busybox_image, secure, "busybox", "--dest-creds", "bob:hunter2")
    name = f"{secure}/busybox"
    with pytest.raises(RegistryUnreachable, match="cannot be trusted") as caught:
        opened(name, tmp_path)
    assert "SSL_CERT_FILE" in caught.value.hint and f"certs.d/{secure}/ca.crt" in caught.value.hint
    ca.cert_pem.write_to_path(home / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(home / "ca.pem"))
    with pytest.raises(AccessDenied, match="authentication required") as caught:
        opened(name, tmp_path)
    assert f"docker login {secure}" in caught.value.hint
    (home / ".docker").mkdir()
    config = home / ".docker/config.json"
    config.write_text(json.dumps({"auths": {secure: {"auth": base64.b64encode(b"bob:wrong").decode()}}}))
    with pytest.raises(AccessDenied) as caught:
        opened(name, tmp_path)
    assert "the login that is kept for it does not do" in caught.value.hint
    config.unlink()
    # as skopeo itself writes it
    login = ["skopeo", "login", "--tls-verify=false", "--authfile", config, "-u", "bob", "-p", "hunter2", secure]
    subprocess.run(login, check=True, capture_output=True)
    assert len(trees(opened(name, tmp_path))) == 1


def test_a_ca_for_one_registry_and_insecure_by_choice(busybox_image, secure, ca, home, tmp_path):
    push(busybox_image, secure, "busybox", "--dest-creds", "bob:hunter2")
    (home / ".docker").mkdir()
    auth = {"auths": {secure: {"auth": base64.b64encode(b"bob:hunter2").decode()}}}
    (home / ".docker/config.json").write_text(json.dumps(auth))
    certificates = home / f".config/containers/certs.d/{secure}"
    certificates.mkdir(parents=True)
    ca.cert_pem.write_to_path(certificates / "ca.crt")
    assert opened(f"{secure}/busybox", tmp_path).layers
    (certificates / "ca.crt").unlink()
    with pytest.raises(RegistryUnreachable):
        opened(f"{secure}/busybox", tmp_path)
    (home / "propolis").mkdir()
    (home / "propolis/registries.conf").write_text(f'[[registry]]\nlocation = "{secure}"\ninsecure = true\n')
    assert opened(f"{secure}/busybox", tmp_path).layers


def test_a_mirror_of_docker_hub_as_companies_have_it(busybox_image, plain, home, tmp_path):
    push(busybox_image, plain, "hub/library/busybox:latest")
    (home / "propolis").mkdir()
    (home / "propolis/registries.conf").write_text(
        f'[[registry]]\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = "{plain}/hub"\n'
    )
    image = opened("busybox", tmp_path)
    assert image.reference == "busybox"
    assert len(trees(image)) == 1


@pytest.mark.parametrize("socks", [False, True])
@pytest.mark.parametrize("tls", [False, True])
def test_proxies_lead_to_registries_that_only_they_know(
    busybox_image, plain, ca, home, tmp_path, monkeypatch, socks, tls
):
    name = "registry.company.test"
    port = plain.partition(":")[2]
    (home / "propolis").mkdir()
    (home / "propolis/registries.conf").write_text(f'[[registry]]\nlocation = "{name}:{port}"\ninsecure = true\n')
    push(busybox_image, plain, "busybox")
    with contextlib.ExitStack() as stack:
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            ca.issue_cert(name).configure_cert(context)
            ca.cert_pem.write_to_path(home / "ca.pem")
            monkeypatch.setenv("SSL_CERT_FILE", str(home / "ca.pem"))
            registry = stack.enter_context(Registry(tls=context))
            write_layout(tmp_path / "image", [{"a": b"b"}])
            registry.push(tmp_path / "image", "busybox")
            port = registry.address.partition(":")[2]
        proxy = stack.enter_context(Proxy(socks=socks, login="" if socks else "user:pass"))
        scheme = "socks5h" if socks else "http"
        login = "" if socks else "user:pass@"
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://{login}{proxy.address}")
        monkeypatch.setenv("HTTP_PROXY", f"{scheme}://{login}{proxy.address}")
        assert len(trees(opened(f"{name}:{port}/busybox", tmp_path))) == 1
        assert all(f"{name}:{port}" in asked for asked in proxy.asked)
        assert proxy.asked
        if not socks:
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:wrong@{proxy.address}")
            monkeypatch.setenv("HTTP_PROXY", f"http://user:wrong@{proxy.address}")
            with pytest.raises(Exception, match=r"refuses|answers 407") as caught:
                opened(f"{name}:{port}/busybox", tmp_path / "other")
            assert "wrong" not in str(caught.value)
        monkeypatch.setenv("NO_PROXY", name)
        with pytest.raises(RegistryUnreachable, match="no connection"):
            opened(f"{name}:{port}/busybox", tmp_path / "other")


PULL = """
import sys, threading
from pathlib import Path
from propolis.disk.cache import LayerCache
from propolis.image.opening import open_image
from propolis.image.store import BlobStore
from propolis.machine.conversion import layer_disks
from propolis.progress import Silent
from propolis.spec import Architecture, DiskFormat
directory = Path(sys.argv[1])
image = open_image(sys.argv[2], Architecture.X86_64, BlobStore(directory / "blobs"))
layer_disks(image, LayerCache(directory / "layers"), DiskFormat.RAW, Silent())
"""


def pulling(directory, name):
    return subprocess.Popen([sys.executable, "-c", PULL, str(directory), name])


@contextlib.contextmanager
def served(directory, size):
    """A registry in this process with a layer that cannot be compressed."""
    write_layout(directory / "big", [{"data": os.urandom(size)}], compression="none")
    with Registry() as registry:
        registry.push(directory / "big", "big")
        yield registry


@pytest.fixture
def one(tmp_path):
    """A registry with a layer that is too small for more than one connection, however slow it comes."""
    with served(tmp_path, 14 << 20) as registry:
        yield registry


@pytest.fixture
def big(tmp_path):
    """A registry with a layer of 40 MB."""
    with served(tmp_path, 40 << 20) as registry:
        yield registry


def test_a_killed_pull_goes_on_in_the_next_run(one, tmp_path):
    layer = max(one.blobs, key=lambda digest: len(one.blobs[digest]))
    one.arm(Fault(kind=FaultKind.STALL, request=f"GET .*/blobs/{layer}", after=10 << 20))
    partial = tmp_path / "blobs" / "sha256" / f".partial-{layer.partition(':')[2]}"
    process = pulling(tmp_path, f"{one.address}/big")
    until = time.monotonic() + 60
    while (not partial.exists() or partial.stat().st_size < 10 << 20) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = partial.stat().st_size
    assert kept == 10 << 20
    assert pulling(tmp_path, f"{one.address}/big").wait() == 0
    (resumed,) = [request for request in one.requests if request.headers.get("range")]
    begun, _, end = resumed.headers["range"].removeprefix("bytes=").partition("-")
    assert kept - (1 << 20) <= int(begun) <= kept, "but for what it had no time to note"
    assert int(end) == len(one.blobs[layer]) - 1
    assert not partial.exists()
    assert len(list((tmp_path / "layers").glob("*.raw"))) == 1
    assert not list((tmp_path / "layers").glob(".staged-*"))


def test_two_processes_fetch_a_layer_once(one, tmp_path):
    processes = [pulling(tmp_path, f"{one.address}/big") for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    layer = max(one.blobs, key=lambda digest: len(one.blobs[digest]))
    assert one.count(f"GET .*/blobs/{layer}") == 1


def test_reading_a_layer_takes_bounded_memory_however_large_it_is(big, tmp_path):
    # not ru_maxrss, which begins with what the parent had
    code = PULL + "\nprint(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), f"{big.address}/big"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) << 10 < 150 << 20
