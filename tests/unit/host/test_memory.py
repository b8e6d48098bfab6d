import gc

import pytest

from propolis.host.memory import collection_paused


def test_collections_pause_as_long_as_anybody_needs_it():
    assert gc.isenabled()
    with collection_paused():
        with collection_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_they_go_on_after_an_error_and_stay_off_where_they_were_off():
    with pytest.raises(KeyError), collection_paused():
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with collection_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
