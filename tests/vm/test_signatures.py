"""`propolis` where images have to be signed: those that are run, and nothing of the others does."""

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from propolis.host.directories import cache_directory
from propolis.testing.registry import Registry
from propolis.testing.signing import sign


def signer():
    key = ec.generate_private_key(ec.SECP256R1())
    return key, lambda data: key.sign(data, ec.ECDSA(SHA256()))


@pytest.fixture(scope="module")
def registry(busybox_image, tmp_path_factory):
    """`signed`, `unsigned` and `forged` are the same busybox; the key is in the registry's `pem`."""
    key, ours = signer()
    with Registry() as registry:
        registry.pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        layout = busybox_image.partition(":")[2]
        path, _, tag = layout.rpartition(":") if ":" in layout else (layout, "", "latest")
        for name in ("signed", "unsigned", "forged"):
            digest = registry.push(Path(path), name, source=tag)
        sign(registry, "signed", digest, ours)
        sign(registry, "forged", digest, signer()[1])
        yield registry


@pytest.fixture
def configured(registry, tmp_path, monkeypatch):
    """A policy that requires the key for this registry, an own cache, and the kernels of the usual one."""
    config, cache = tmp_path / "config", tmp_path / "cache"
    config.mkdir()
    cache.mkdir()
    (cache / "kernels").symlink_to(cache_directory() / "kernels")
    (config / "cosign.pub").write_bytes(registry.pem)
    requirement = {"type": "sigstoreSigned", "keyPath": "cosign.pub", "signedIdentity": {"type": "matchRepository"}}
    scopes = {registry.address: [requirement]}
    (config / "policy.json").write_text(json.dumps({"default": [{"type": "reject"}], "transports": {"docker": scopes}}))
    monkeypatch.setenv("PROPOLIS_CONFIG", str(config))
    monkeypatch.setenv("PROPOLIS_CACHE", str(cache))
    monkeypatch.delenv("PROPOLIS_SIGNATURE_POLICY", raising=False)
    return config, cache


def test_what_is_signed_runs_again_and_again_without_the_network(cli, registry, configured):
    config, _ = configured
    image = f"{registry.address}/signed"
    for _ in range(2):
        done = cli("run", "-q", image, "echo", "hello")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")
        registry.requests.clear()
    done = cli("run", "-q", "--pull", "never", image, "echo", "hello")
    assert (done.returncode, done.stdout, registry.requests) == (0, b"hello\n", [])
    # whoever loses their trust loses it at once
    other = signer()[0].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (config / "cosign.pub").write_bytes(other)
    done = cli("run", "-q", image, "echo", "hello")
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"another key" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "ADDRESS/unsigned", "true"), "there is no signature of sha256:"),
        (("run", "ADDRESS/forged", "true"), "it was made by another key"),
        (("run", "-d", "ADDRESS/forged", "true"), "it was made by another key"),
        (("pull", "ADDRESS/unsigned"), "there is no signature of sha256:"),
        (("disk", "build", "ADDRESS/forged", "-o", "DIRECTORY/disk.vhdx", "--flatten"), "it was made by another key"),
        (("run", "BUSYBOX", "true"), "the policy rejects it"),
        (("run", "--signature-policy", "DIRECTORY/nosuch", "ADDRESS/signed", "true"), "there is no signature policy"),
        (("run", "--signature-policy", "DIRECTORY/broken", "ADDRESS/signed", "true"), "'defaults', which is not known"),
    ],
)
def test_what_is_not_says_why_and_leaves_nothing(cli, registry, configured, busybox_image, tmp_path, arguments, words):
    (tmp_path / "broken").write_text('{"defaults": []}')
    places = {"ADDRESS": registry.address, "BUSYBOX": busybox_image, "DIRECTORY": str(tmp_path)}
    for name, value in places.items():
        arguments = [argument.replace(name, value) for argument in arguments]
    done = cli(*arguments)
    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (125, b"")
    assert words in said
    assert len(said.splitlines()) == 2
    assert said.splitlines()[1].startswith("  hint: ")
    _, cache = configured
    assert not list((cache / "layers").glob("*"))
    assert not [path for path in cache.rglob(".*") if path.is_file()]
    assert not (tmp_path / "disk.vhdx").exists()


def test_another_policy_can_be_named(cli, registry, configured, tmp_path):
    (tmp_path / "lax.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    done = cli(
        "run", "-q", "--signature-policy", tmp_path / "lax.json", f"{registry.address}/unsigned", "echo", "hello"
    )
    assert (done.returncode, done.stdout) == (0, b"hello\n")
    environment = os.environ | {"PROPOLIS_SIGNATURE_POLICY": str(tmp_path / "lax.json")}
    done = cli("run", "-q", f"{registry.address}/unsigned", "echo", "hello", env=environment)
    assert (done.returncode, done.stdout) == (0, b"hello\n")
