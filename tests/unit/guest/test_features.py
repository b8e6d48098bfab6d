import pytest

from propolis.errors import KernelUnsuitable
from propolis.guest import features
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
