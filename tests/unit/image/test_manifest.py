import json

import pytest

from propolis.errors import ImageInvalid
from propolis.image import manifest as m
from propolis.image.compression import Compression

DIGEST = "sha256:" + "0" * 64


def descriptor(media_type, **more):
    return {"mediaType": media_type, "digest": DIGEST, "size": 7, **more}


def manifest(layers=(m.OCI_LAYER,), config=m.OCI_CONFIG, **more):
    return {"schemaVersion": 2, "config": descriptor(config), "layers": [descriptor(one) for one in layers], **more}


def config(**more):
    return {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [DIGEST]}, **more}


def parsed(parse, document):
    return parse(json.dumps(document).encode(), "doc")


@pytest.mark.parametrize(
    ("media_type", "compression"),
    [
        (m.OCI_LAYER, Compression.NONE),
        (m.OCI_LAYER + "+gzip", Compression.GZIP),
        (m.OCI_LAYER + "+zstd", Compression.ZSTD),
        (m.DOCKER_LAYER + ".gzip", Compression.GZIP),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Compression.GZIP),
    ],
)
def test_layer_media_types_of_oci_and_docker_are_known(media_type, compression):
    one = parsed(m.parse_manifest, manifest([media_type]))
    (layer,) = m.pair_layers(one, parsed(m.parse_config, config()), "doc")
    assert layer.compression is compression
    assert str(layer) == "layer sha256:000000000000"


def test_config_keeps_what_running_needs():
    run = {"Entrypoint": ["/e"], "Cmd": ["c"], "Env": ["A=b=c", "BAD", "=x"], "WorkingDir": "w", "User": "1:2"}
    run |= {"StopSignal": "SIGINT", "Volumes": {"/v": {}}, "ExposedPorts": {"80/tcp": {}}}
    found = parsed(m.parse_config, config(config=run, variant="v2"))
    assert found == m.Config(
        platform=m.Platform(os="linux", architecture="amd64", variant="v2"),
        entrypoint=("/e",),
        cmd=("c",),
        env=("A=b=c",),
        working_dir="/w",
        user="1:2",
        stop_signal="SIGINT",
        diff_ids=(DIGEST,),
    )


def test_go_writes_null_for_what_is_empty():
    nulls = dict.fromkeys(("Entrypoint", "Cmd", "Env", "Volumes", "Labels"))
    found = parsed(m.parse_config, config(config=nulls))
    assert (found.entrypoint, found.cmd, found.env, found.working_dir) == ((), (), (), "/")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (manifest(["application/x-rar"]), r"layers\[0\].mediaType is 'application/x-rar'"),
        (manifest(config="application/vnd.oci.empty.v1+json"), "no container image"),
        (manifest([m.OCI_LAYER] * 501), "has 501 items"),
        (manifest() | {"schemaVersion": 1}, "schemaVersion is not 2"),
        (manifest() | {"schemaVersion": "2"}, "schemaVersion is not a whole number"),
        ({"schemaVersion": 1, "name": "x", "fsLayers": []}, "schema 1"),
        (manifest(mediaType=m.OCI_INDEX), "mediaType is"),
        (manifest(manifests=[]), "manifests does not belong"),
        (manifest() | {"config": None}, "config is missing"),
        (manifest() | {"config": []}, "config is not a JSON object"),
        (manifest() | {"layers": {}}, "layers is not a list"),
        (manifest() | {"config": descriptor(m.OCI_CONFIG) | {"digest": "md5:x"}}, "config.digest is 'md5:x'"),
        (manifest() | {"config": descriptor(m.OCI_CONFIG) | {"size": -1}}, "config.size is not between"),
        (manifest() | {"config": descriptor(m.OCI_CONFIG) | {"size": 1 << 60}}, "config.size is not between"),
        ([], "doc is not a JSON object"),
    ],
)
def test_a_hostile_manifest_is_refused_by_name_of_the_field(document, message):
    with pytest.raises(ImageInvalid, match=message):
        parsed(m.parse_manifest, document)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (config(rootfs=None), "rootfs is missing"),
        (config(rootfs={"diff_ids": ["x"]}), r"rootfs.diff_ids\[0\] is 'x'"),
        (config(os=None), "os is missing"),
        (config(architecture=["amd64"]), "architecture is not a string"),
        (config(config={"Env": "A=b"}), "config.Env is not a list"),
        (config(config={"Cmd": ["a\0b"]}), r"config.Cmd\[0\] contains a NUL"),
        (config(config=[]), "config is not a JSON object"),
    ],
)
def test_a_hostile_config_is_refused_by_name_of_the_field(document, message):
    with pytest.raises(ImageInvalid, match=message):
        parsed(m.parse_config, document)


def test_layers_and_diff_ids_must_be_as_many():
    with pytest.raises(ImageInvalid, match="has 2 layers, but its config lists 1"):
        m.pair_layers(parsed(m.parse_manifest, manifest([m.OCI_LAYER] * 2)), parsed(m.parse_config, config()), "doc")


def test_an_index_that_is_also_a_manifest_is_refused():
    with pytest.raises(ImageInvalid, match="layers does not belong"):
        parsed(m.parse_index, {"schemaVersion": 2, "manifests": [], "layers": []})
