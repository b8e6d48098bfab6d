import random
from unittest import mock

import pytest

from propolis.disk.ext4 import large
from propolis.disk.ext4.large import LargeDirectory
from propolis.disk.ext4.node import Node
from propolis.disk.ext4.packing import Packing
from propolis.disk.ext4.records import Records
from propolis.disk.ext4.structs import S_IFDIR, S_IFREG


def node(time, mode=S_IFREG):
    made = Node(mode, mtime_ns=time)
    made.links = 1
    return made


def times(children):
    return [(name, child.mtime_ns) for name, child in children.items()]


@pytest.mark.parametrize("hashed", [hash, lambda _: 0, lambda name: len(name) << 40 | 7])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_a_dictionary_whenever_it_is_put_away(hashed, seed):
    chance = random.Random(seed)
    model: dict[bytes, int] = {}
    with mock.patch.object(large, "_PART", 5), mock.patch.object(large, "hash", hashed, create=True):
        directory = LargeDirectory(Records(), Node(S_IFDIR), {}, lambda _: None)
        for time in range(600):
            name = b"n" * chance.randrange(1, 60)
            match chance.randrange(8):
                case 0 | 1 | 2 | 3:
                    model[name], directory[name] = time, node(time)
                case 4:
                    gone = directory.pop(name, None)
                    assert (None if gone is None else gone.mtime_ns) == model.pop(name, None)
                case 5:
                    found = directory.get(name)
                    assert (None if found is None else found.mtime_ns) == model.get(name)
                case 6:
                    directory.put_away()
                case 7:
                    assert (times(directory), len(directory)) == (list(model.items()), len(model))
        assert list(directory) == list(model)
        assert [child.mtime_ns for child in directory.values()] == list(model.values())


def test_the_index_grows_and_forgets():
    directory = LargeDirectory(Records(), Node(S_IFDIR), {}, lambda _: None)
    for time in range(5000):
        directory[b"%d" % time] = node(time)
    directory.put_away()
    for time in range(0, 5000, 2):
        del directory[b"%d" % time]
    with pytest.raises(KeyError):
        del directory[b"0"]
    assert times(directory) == [(b"%d" % time, time) for time in range(1, 5000, 2)]
    assert directory.get(b"2") is None


def test_what_is_asked_for_comes_back_as_one_inode_that_may_change():
    back = []
    inside, above = node(1, S_IFDIR), Node(S_IFDIR)
    Packing().pack(inside)
    directory = LargeDirectory(Records(), above, {b"d": inside, b"f": node(2)}, back.append)
    directory.put_away()
    assert [child.mtime_ns for child in directory.values()] == [1, 2]
    assert back == []
    assert directory[b"f"] is directory[b"f"]
    assert back == [2]
    assert directory[b"d"].parent is above
    directory[b"f"].mtime_ns = 3
    directory.put_away()
    assert directory[b"f"].mtime_ns == 3
