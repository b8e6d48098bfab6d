import pytest

from propolis.errors import KernelUnsuitable
from propolis.guest import features
from propolis.guest.features import Ability
from propolis.spec import Architecture

X86 = Architecture.X86_64


def test_the_configuration_is_read_as_kconfig_writes_it():
    text = '#\n# CONFIG_FOO is not set\nCONFIG_EXT4_FS=m\nCONFIG_CC="gcc-12"\nXCONFIG_NO=y\nCONFIG_HZ=250\n'
    assert features.parse_config(text) == {"EXT4_FS": "m", "CC": '"gcc-12"', "HZ": "250"}


def test_all_built_in_needs_no_module(crafted):
    features.check("6.1", X86, features.parse_config(crafted.SUITABLE_CONFIG), lambda _: False)


@pytest.mark.parametrize("feature", [*features.MODULAR, *features.BUILT_IN, features.CONSOLE[X86]])
def test_each_missing_feature_is_named(crafted, feature):
    config = features.parse_config(crafted.SUITABLE_CONFIG)
    del config[feature.symbol]
    with pytest.raises(KernelUnsuitable, match=f"6.1 cannot.*CONFIG_{feature.symbol} ") as caught:
        features.check("6.1", X86, config, lambda _: True)
    assert "--kernel" in caught.value.hint


@pytest.mark.parametrize("feature", features.MODULAR)
def test_a_module_that_is_not_there_is_named(crafted, feature):
    config = features.parse_config(crafted.MODULAR_CONFIG)
    with pytest.raises(KernelUnsuitable, match=f"the module {feature.module} "):
        features.check("6.1", X86, config, lambda name: name != feature.module)


@pytest.mark.parametrize("feature", features.BUILT_IN)
def test_what_has_to_be_built_in_may_not_be_a_module(crafted, feature):
    config = features.parse_config(crafted.SUITABLE_CONFIG) | {feature.symbol: "m"}
    with pytest.raises(KernelUnsuitable, match=feature.symbol):
        features.check("6.1", X86, config, lambda _: True)


def test_without_a_configuration_the_modules_decide():
    features.check("6.1", X86, None, lambda _: True)
    with pytest.raises(KernelUnsuitable, match="the module overlay"):
        features.check("6.1", X86, None, lambda name: name != "overlay")


HYPERV_CONFIG = {"HYPERV": "y", "HYPERV_STORAGE": "y", "HYPERV_VSOCKETS": "y"}
SHARES_CONFIG = {"9P_FS": "y", "NET_9P_VIRTIO": "y", "NET_9P_FD": "y"}


@pytest.mark.parametrize("value", ["y", "m"])
def test_what_a_kernel_can_do_says_its_configuration(value):
    config = dict.fromkeys(HYPERV_CONFIG | SHARES_CONFIG, value)
    assert features.abilities(config, lambda _: value == "m") == set(Ability)
    assert features.abilities(config, lambda _: False) == (set(Ability) if value == "y" else set())


@pytest.mark.parametrize("ability", Ability)
def test_each_ability_falls_with_each_thing_it_needs(ability):
    for feature in features._ABILITIES[ability][1]:
        config = HYPERV_CONFIG | SHARES_CONFIG
        del config[feature.symbol]
        assert ability not in features.abilities(config, lambda _: True)


def test_without_a_configuration_the_modules_decide_what_it_can():
    assert features.abilities(None, lambda name: name in {"9p", "9pnet_virtio"}) == {Ability.SHARES}


@pytest.mark.parametrize(("more", "able"), [({}, False), ({"KALLSYMS": "y"}, True), ({"VIRTIO_VSOCKETS": "m"}, True)])
def test_virtios_sockets_take_hypervs_place_unless_they_can_be_kept_off(more, able):
    config = HYPERV_CONFIG | SHARES_CONFIG | {"VIRTIO_VSOCKETS": "y"} | more
    assert (Ability.HYPERV in features.abilities(config, lambda _: True)) == able
    assert Ability.SHARES in features.abilities(config, lambda _: True)


@pytest.mark.parametrize(
    ("hyperv", "shares", "needed"),
    [
        (False, False, set()),
        (False, True, {Ability.SHARES}),
        (True, False, {Ability.HYPERV}),
        (True, True, {Ability.HYPERV, Ability.HYPERV_SHARES}),
    ],
)
def test_what_is_asked_of_a_kernel(hyperv, shares, needed):
    features.demand("6.1", needed, hyperv=hyperv, shares=shares)
    for lacking in needed:
        with pytest.raises(KernelUnsuitable, match=r"kernel 6\.1 cannot .* lacks one of CONFIG_") as caught:
            features.demand("6.1", set(Ability) - {lacking}, hyperv=hyperv, shares=shares)
        assert "--kernel" in caught.value.hint
