import pytest

from propolis.errors import MachineLost
from propolis.machine.grouping import ungrouped


def test_the_only_error_comes_out_of_its_groups():
    with pytest.raises(KeyError) as caught, ungrouped():
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [KeyError("x")])])
    assert isinstance(caught.value.__cause__, ExceptionGroup)


def test_one_of_ours_comes_before_others():
    with pytest.raises(MachineLost), ungrouped():
        raise BaseExceptionGroup("group", [ValueError(), ExceptionGroup("inner", [MachineLost("gone")])])


def test_what_is_not_grouped_stays_as_it_is():
    error = KeyError("x")
    with pytest.raises(KeyError) as caught, ungrouped():
        raise error
    assert caught.value is error
    with ungrouped():
        pass
