"""What reads images, registries' words and configuration, under atheris (libFuzzer for Python); some seconds each.

`make fuzz` gives each ten minutes.
"""

import importlib.util
import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from propolis.image.compression import Compression
from propolis.spec import Architecture
from propolis.testing.images import write_index, write_layout
from propolis.testing.signing import payload

PROGRAM = Path(__file__).with_name("image_bytes.py")
SECONDS = int(os.environ.get("FUZZ_SECONDS", "5"))

pytestmark = pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is for Linux on x86-64")


def documents(directory):
    digest = write_layout(directory, [{"a": b"1"}], config={"Cmd": ["sh"], "Env": ["A=b"], "User": "1:2"}, tag=None)
    write_index(directory, {Architecture.X86_64: digest})
    blobs = [path.read_bytes() for path in (directory / "blobs/sha256").iterdir()]
    index, manifest, config = (
        next(blob for blob in blobs if word in blob) for word in (b'"manifests"', b'"layers"', b'"rootfs"')
    )
    yield b"\0\0".join([index, manifest, config])
    yield b"\0\0".join([manifest, config, index])


def layers(directory):
    for tar_format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=tar_format) as tar:
            for name, kind, link in (("d", b"5", ""), ("d/l", b"2", "../x"), ("f" * 99, b"0", "")):
                member = tarfile.TarInfo(name)
                member.type, member.linkname, member.size = kind, link, 3 if kind == b"0" else 0
                member.pax_headers = {"SCHILY.xattr.user.a": "b"}
                tar.addfile(member, io.BytesIO(b"abc"))
        # the first byte says how the rest is compressed; only plain ones can be changed in a meaningful way
        yield bytes([list(Compression).index(Compression.NONE)]) + file.getvalue()


def texts(directory):
    yield b'Bearer realm="https://auth.example/token",service="registry",scope="repository:app:pull"'
    yield b'[[registry]]\nprefix = "*.example.com"\nlocation = "a:5000/b"\n[[registry.mirror]]\nlocation = "c"\n'
    yield b"registry.example:5000/app/web:1.0@sha256:" + b"0" * 64
    yield b"oci:/srv/image:tag"
    yield b"https://user@[::ffff:169.254.169.254]:443/v2/?a=b"
    yield b'{"auths": {"a.b": {"auth": "Ym9iOng="}}, "credHelpers": {"a.b": "x"}, "credsStore": "y"}'
    requirement = b'{"type": "sigstoreSigned", "keyData": "eA==", "signedIdentity": {"type": "matchRepository"}}'
    yield b'{"default": [{"type": "reject"}], "transports": {"docker": {"a.b": [' + requirement + b"]}}}"


def answers(directory):
    yield b"\0\0".join([b"bytes 100-899/1000", b"1000", b'Bearer realm="https://c.d/",service="x"', b"identity"])
    yield b'{"token": "abc", "expires_in": 300, "access_token": "def"}'
    yield payload(f"sha256:{'0' * 64}", "a.b/c")
    envelope = b'{"payload": "e30=", "payloadType": "application/vnd.in-toto+json", "signatures": [{"sig": "eA=="}]}'
    yield b'{"dsseEnvelope": ' + envelope + b"}"


@pytest.mark.parametrize("seeds", [documents, layers, texts, answers])
def test_no_input_gives_more_than_an_error_of_ours(seeds, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds(tmp_path / "image")):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = [f"-max_total_time={SECONDS}", "-max_len=32768", "-timeout=5", "-rss_limit_mb=1024"]
    done = subprocess.run(
        [
            sys.executable,
            PROGRAM,
            seeds.__name__,
            *limits,
            "-print_final_stats=1",
            f"-artifact_prefix={tmp_path}/",
            corpus,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS + 120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(re.search(r"number_of_executed_units: (\d+)", done.stderr)[1]) > 100
