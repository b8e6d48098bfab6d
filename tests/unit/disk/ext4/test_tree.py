import pytest

from disks import NothingBelow, file, other
from propolis.disk.ext4.node import Node
from propolis.disk.ext4.structs import EXT4_LINK_MAX, S_IFCHR, S_IFDIR
from propolis.disk.ext4.tree import OPAQUE, ORIGIN, Tree
from propolis.errors import ImageInvalid, LayerUnsupported
from propolis.tree import Kind


def taken(*items):
    base = Node(S_IFDIR | 0o755)
    base.links = 1
    tree = Tree(base, "layer it", NothingBelow())
    for number, (entry, _) in enumerate(items):
        node = tree.add(entry)
        if node is not None:
            node.extents = ((0, 100 * number, 1),)
    tree.finish()
    return base, tree


def at(base, path):
    node = base
    for name in path.split(b"/"):
        node = node.children[name]
    return node


def test_a_later_entry_replaces_an_earlier_one_and_frees_it():
    base, tree = taken(file(b"f", b"1", uid=1), file(b"f", b"22", uid=2))
    assert (at(base, b"f").uid, at(base, b"f").size) == (2, 2)
    assert tree.freed == [(0, 1)]


def test_a_replaced_file_lives_on_in_its_other_links():
    base, tree = taken(file(b"f", b"1"), other(Kind.HARDLINK, b"l", link=b"f"), file(b"f", b"2"))
    assert at(base, b"l").links == 1
    assert tree.freed == []


def test_a_directory_again_keeps_its_children_and_takes_the_attributes():
    base, _ = taken(file(b"d/f"), other(Kind.DIRECTORY, b"d", mode=0o700, uid=3, xattrs={b"user.a": b"1"}))
    directory = at(base, b"d")
    assert (directory.mode, directory.uid, directory.xattrs) == (0o040700, 3, {b"user.a": b"1"})
    assert list(directory.children) == [b"f"]


def test_the_root_has_an_entry_too():
    base, _ = taken(file(b"f"), other(Kind.DIRECTORY, b"", mode=0o711, mtime_ns=5))
    assert (base.mode, base.mtime_ns) == (0o040711, 5)


def test_a_file_over_a_directory_frees_all_below_and_back_hides_what_lower_layers_have():
    base, tree = taken(file(b"d/e/f"), file(b"d"), other(Kind.DIRECTORY, b"d"), file(b"d/e/g"))
    assert tree.freed == [(0, 1), (100, 1)]
    assert at(base, b"d").xattrs == {OPAQUE: b"y"}
    assert list(at(base, b"d/e").children) == [b"g"]


@pytest.mark.parametrize("items", [[other(Kind.WHITEOUT, b"x"), file(b"x")], [file(b"x"), other(Kind.WHITEOUT, b"x")]])
def test_a_file_wins_over_a_whiteout_in_either_order(items):
    assert not at(taken(*items)[0], b"x").whiteout


@pytest.mark.parametrize(
    "items",
    [
        [other(Kind.WHITEOUT, b"d"), file(b"d/f")],
        [file(b"d/f"), other(Kind.WHITEOUT, b"d")],
        [other(Kind.OPAQUE, b"d"), file(b"d/f")],
    ],
)
def test_a_whiteout_and_a_directory_make_it_opaque_in_either_order(items):
    directory = at(taken(*items)[0], b"d")
    assert directory.xattrs[OPAQUE] == b"y"
    assert list(directory.children) == [b"f"]


def test_a_whiteout_is_a_device_and_its_directory_says_that_it_may_have_some():
    base, _ = taken(other(Kind.WHITEOUT, b"d/x"), other(Kind.DIRECTORY, b"d", xattrs={b"user.a": b"1"}))
    assert (at(base, b"d/x").mode, at(base, b"d/x").device) == (S_IFCHR, (0, 0))
    assert at(base, b"d").xattrs == {b"user.a": b"1", ORIGIN: b""}


def test_an_images_own_overlay_attributes_are_dropped():
    base, _ = taken(other(Kind.DIRECTORY, b"d", xattrs={OPAQUE: b"y", b"user.overlay.opaque": b"y", b"user.a": b"1"}))
    assert at(base, b"d").xattrs == {b"user.a": b"1"}


def test_a_link_may_come_before_its_target_and_yields_to_a_later_entry():
    base, _ = taken(
        other(Kind.HARDLINK, b"l", link=b"f"), other(Kind.HARDLINK, b"m", link=b"f"), file(b"f"), file(b"m")
    )
    assert at(base, b"l") is at(base, b"f")
    assert at(base, b"m") is not at(base, b"f")


def test_links_are_found_through_symbolic_links():
    base, _ = taken(
        other(Kind.SYMLINK, b"lib", link=b"usr/lib"), file(b"lib/a"), other(Kind.HARDLINK, b"lib/b", link=b"lib/a")
    )
    assert at(base, b"usr/lib/a") is at(base, b"usr/lib/b")


def test_a_symbolic_link_itself_can_have_links():
    base, _ = taken(other(Kind.SYMLINK, b"s", link=b"nowhere"), other(Kind.HARDLINK, b"l", link=b"s"))
    assert at(base, b"l").links == 2


def test_a_missing_target_names_link_and_target():
    with pytest.raises(ImageInvalid, match="layer it: l is a hard link to gone/f, which does not exist") as caught:
        taken(other(Kind.HARDLINK, b"l", link=b"gone/f"))
    assert caught.value.hint


def test_the_most_links_and_one_more():
    items = [file(b"f"), *(other(Kind.HARDLINK, b"%d" % number, link=b"f") for number in range(EXT4_LINK_MAX - 1))]
    assert at(taken(*items)[0], b"f").links == EXT4_LINK_MAX
    with pytest.raises(LayerUnsupported):
        taken(*items, other(Kind.HARDLINK, b"more", link=b"f"))


def test_links_to_links_that_come_later_find_the_file():
    links = [other(Kind.HARDLINK, b"a", link=b"b"), other(Kind.HARDLINK, b"b", link=b"c")]
    base, _ = taken(*links, file(b"c", b"1"))
    assert at(base, b"a") is at(base, b"b") is at(base, b"c")
    assert at(base, b"c").links == 3


def test_links_in_a_circle_have_no_target():
    with pytest.raises(ImageInvalid, match="does not exist"):
        taken(other(Kind.HARDLINK, b"a", link=b"b"), other(Kind.HARDLINK, b"b", link=b"a"))


def test_a_nul_in_a_name_is_refused():
    with pytest.raises(ImageInvalid, match="NUL"):
        taken(file(b"a\0b", b"1"))
