import pytest

from propolis.errors import InvalidArgument
from propolis.image.manifest import Platform
from propolis.image.platforms import architecture_of, fits, is_baseline, parse_platform, platform_of
from propolis.spec import Architecture


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("amd64", "linux/amd64"),
        ("Linux/X86_64", "linux/amd64"),
        ("linux/x86-64/v2", "linux/amd64/v2"),
        ("aarch64", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64/v8"),
        ("linux/arm64/v9", "linux/arm64/v9"),
        ("armhf", "linux/arm/v7"),
        ("linux/i386", "linux/386"),
        ("s390x", "linux/s390x"),
    ],
)
def test_platforms_are_read_as_docker_does(text, expected):
    assert str(parse_platform(text)) == expected


@pytest.mark.parametrize("text", ["", "/", "linux/", "linux/a/b/c", "windows/amd64", "a b", "linux/amd64/\n", "x" * 99])
def test_nonsense_and_other_systems_are_refused(text):
    with pytest.raises(InvalidArgument) as caught:
        parse_platform(text)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["foo", "linux/foo", "linux", "windows", "linux/am64/v8"])
def test_an_architecture_that_nobody_knows_is_refused_with_those_that_are_known(text):
    with pytest.raises(InvalidArgument, match="is no architecture") as caught:
        parse_platform(text)
    known = caught.value.hint.removeprefix("known are ").split(", ")
    assert {"amd64", "arm64", "riscv64"} <= set(known)
    assert [str(parse_platform(name)) for name in known] == [f"linux/{name}" for name in known]


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        (("amd64", ""), "amd64", True),
        (("x86_64", "v3"), "amd64", True),
        (("amd64", "v3"), "amd64/v2", False),
        (("amd64", "v2"), "amd64/v2", True),
        (("amd64", ""), "amd64/v1", True),
        (("arm64", ""), "arm64/v8", True),
        (("arm64", "8"), "arm64/v8", True),
        (("aarch64", "v9"), "arm64/v8", False),
        (("arm", ""), "arm/v7", True),
        (("arm", "v6"), "armhf", False),
        (("arm64", "v8"), "amd64", False),
    ],
)
def test_a_variant_that_is_asked_for_is_that_one(found, wanted, expected):
    architecture, variant = found
    text = wanted if wanted == "armhf" else f"linux/{wanted}"
    platform = Platform(os="linux", architecture=architecture, variant=variant)
    assert fits(platform, parse_platform(text)) is expected
    assert not fits(Platform(os="windows", architecture=architecture, variant=variant), parse_platform(text))


def test_the_baseline_is_what_every_processor_runs():
    for architecture, variant in (("amd64", ""), ("amd64", "v1"), ("arm64", "v8"), ("s390x", "")):
        assert is_baseline(Platform(os="linux", architecture=architecture, variant=variant))
    assert not is_baseline(Platform(os="linux", architecture="amd64", variant="v3"))


def test_guests_are_of_few_architectures():
    for architecture in Architecture:
        assert architecture_of(platform_of(architecture)) is architecture
    assert architecture_of(parse_platform("x86_64")) is Architecture.X86_64
    assert architecture_of(parse_platform("riscv64")) is None
