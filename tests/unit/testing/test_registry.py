import json
import urllib.error
import urllib.request

import pytest

from propolis.testing.images import write_layout
from propolis.testing.registry import Fault, FaultKind, Registry


def get(registry, path, headers=None):
    request = urllib.request.Request(f"http://{registry.address}{path}", headers=headers or {})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        return answer.status, answer.read(), answer.headers


def test_an_image_is_served_with_all_that_belongs_to_it(tmp_path):
    digest = write_layout(tmp_path, [{"a": b"b"}], tag="v1")
    with Registry() as registry:
        assert registry.push(tmp_path, "app", "v2", source="v1") == digest
        status, body, headers = get(registry, "/v2/app/manifests/v2")
        assert (status, headers["Docker-Content-Digest"]) == (200, digest)
        layer = json.loads(body)["layers"][0]
        assert len(get(registry, f"/v2/app/blobs/{layer['digest']}")[1]) == layer["size"]
        assert get(registry, f"/v2/app/blobs/{layer['digest']}", {"Range": "bytes=2-4"})[0] == 206
        assert registry.count("GET .*/blobs/") == 2
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(registry, "/v2/app/manifests/v3")


def test_faults_happen_as_often_as_they_are_armed():
    with Registry() as registry:
        registry.put("app", "v", b"0123456789", "text/plain")
        registry.arm(
            Fault(kind=FaultKind.STATUS, status=418), Fault(kind=FaultKind.WRONG, request="manifests", after=3)
        )
        with pytest.raises(urllib.error.HTTPError, match="418"):
            get(registry, "/v2/")
        assert get(registry, "/v2/app/manifests/v")[1] == b"0122456789"
        assert get(registry, "/v2/app/manifests/v")[1] == b"0123456789"


def test_who_has_no_token_is_told_where_to_get_one():
    with Registry(authentication="token") as registry:
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(registry, "/v2/")
        assert f'realm="http://{registry.address}/token"' in caught.value.headers["WWW-Authenticate"]
        caught.value.close()
        token = json.loads(get(registry, "/token")[1])["token"]
        assert get(registry, "/v2/", {"Authorization": f"Bearer {token}"})[0] == 200


def test_what_it_serves_ends_with_it():
    with Registry() as registry:
        pass
    with pytest.raises(urllib.error.URLError):
        get(registry, "/v2/")
