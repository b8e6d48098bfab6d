"""The distribution's own kernel, fetched by apt, judged by depmod and modprobe; our archives, judged by cpio."""

import gzip
import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from propolis.errors import KernelUnsuitable
from propolis.guest import apt, cpio, features, initramfs, kernel, package
from propolis.guest.bundle import Source
from propolis.guest.modules import ModuleTree, resolve
from propolis.progress import Silent
from propolis.spec import Architecture

X86 = Architecture.X86_64


@pytest.fixture(scope="module", autouse=True)
def _no_tuned_kernel():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROPOLIS_KERNEL", "distribution")
        yield


def _needs(*tools):
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


class Heard(Silent):
    """Remembers what it was told."""

    def __init__(self):
        self.total = self.done = 0

    def begin(self, step, subject="", total=None):
        self.total += (total or 0) if step == apt.STEP else 0

    def advance(self, step, subject="", amount=0):
        self.done += amount


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory):
    """The distribution's kernel as `propolis run` gets it on a host that has none; and what the reporter heard."""
    if not apt.available():
        pytest.skip("not installed: apt")
    cache, root = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("root")
    heard = Heard()
    return kernel.find_kernel(cache, X86, heard, root=root), heard


def _release(root: Path) -> str:
    (image,) = (root / "boot").glob("vmlinuz-*")
    return image.name.removeprefix("vmlinuz-")


def test_the_downloaded_kernel_is_complete_and_nothing_else_stays(downloaded):
    found, heard = downloaded
    assert found.source is Source.DOWNLOADED
    assert set(features.MODULES) <= set(found.module_names)
    assert {path.name for path in found.image.parent.iterdir()} == {"kernel", "modules.cpio", "bundle.json"}
    assert {path.name for path in found.image.parent.parent.iterdir()} == {".lock", found.image.parent.name}
    assert 0 < heard.done <= heard.total


def test_given_from_an_unpacked_package_it_is_the_same(downloaded, kernel_root, tmp_path):
    given = kernel.given_kernel(kernel_root / "boot" / f"vmlinuz-{_release(kernel_root)}", tmp_path, X86)
    assert given.identity == downloaded[0].identity


@pytest.fixture(scope="session")
def indexed(kernel_root, tmp_path_factory):
    """The tree after depmod, as installation leaves it; returns its module directory."""
    tree = tmp_path_factory.mktemp("installed") / "root"
    subprocess.run(["cp", "-al", kernel_root, tree], check=True)
    subprocess.run(["depmod", "-b", tree, _release(tree)], check=True)
    return tree / "lib/modules" / _release(tree)


def _load_order(directory):
    modules = ModuleTree.scan(directory)
    return list(resolve(features.MODULES, modules.builtin, modules.find).modules)


def _name(path):
    return Path(path).stem.replace("-", "_")


@_needs("depmod")
def test_depmod_finds_the_same_dependencies(indexed):
    needs = {}
    for line in (indexed / "modules.dep").read_text().splitlines():
        module, _, dependencies = line.partition(":")
        needs[_name(module)] = {_name(path) for path in dependencies.split()}
    order = _load_order(indexed)
    assert set(order) == set(features.MODULES).union({"crc32c_generic"}, *(needs[name] for name in features.MODULES))
    for position, name in enumerate(order):
        assert needs[name] <= set(order[:position])


def test_the_distributions_kernel_can_all(downloaded):
    assert downloaded[0].abilities == set(features.Ability)


@_needs("depmod")
def test_every_list_is_complete_after_those_before_it(indexed, downloaded):
    """What depmod says that a module needs is in its list ahead of it, or in one that has been loaded by then."""
    needs = {}
    for line in (indexed / "modules.dep").read_text().splitlines():
        module, _, dependencies = line.partition(":")
        needs[_name(module)] = {_name(path) for path in dependencies.split()}
    archive = downloaded[0].modules.read_bytes()
    lists = {}
    for file, names, after in features.LISTS:
        content = archive[archive.index(f"modules/{file}\0".encode()) :].partition(b"\0")[2]
        lists[file] = [
            line.removesuffix(".ko") for line in content[: content.index(b"07070")].strip(b"\0").decode().split()
        ]
        loaded = {name for earlier in after for name in lists[earlier]}
        assert loaded.isdisjoint(lists[file])
        for name in lists[file]:
            assert needs[name] <= loaded, (file, name)
            loaded.add(name)
        assert set(names) <= loaded


@_needs("depmod", "modprobe")
def test_modprobe_would_load_the_same_modules(indexed):
    theirs = set()
    for name in features.MODULES:
        command = ["modprobe", "-d", indexed.parents[2], "-S", indexed.name, "--show-depends", name]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        theirs |= {_name(line.split()[1]) for line in lines if line.startswith("insmod")}
    ours = set(_load_order(indexed))
    assert ours <= theirs
    # of several providers of a checksum modprobe takes all, we the one that runs everywhere, or none
    assert all(name.startswith("crc") for name in theirs - ours), theirs - ours


@_needs("cpio")
def test_cpio_lists_what_we_wrote(downloaded):
    _, path = initramfs.boot_files(downloaded[0])
    listing = []
    with path.open("rb") as file:
        for _ in range(2):  # cpio stops at the end of an archive; the kernel goes on
            command = ["cpio", "-itv", "--quiet", "--io-size=4"]
            result = subprocess.run(command, stdin=file, capture_output=True, text=True, check=True)
            listing += [line.split() for line in result.stdout.splitlines()]
            file.seek(_next_archive(path.read_bytes(), file.tell()))
    names = [fields[-1] for fields in listing]
    assert names[0] == "modules"
    assert [f"modules/{name}.ko" for name in downloaded[0].module_names] == names[1:-12]
    modes = {fields[-1]: fields[0] for fields in listing}
    assert modes["init"] == "-rwxr-xr-x"
    assert modes["dev/console"] == "crw-------"
    assert modes["run"] == "drwxr-xr-x"
    console = next(fields for fields in listing if fields[-1] == "dev/console")
    assert (console[2], console[4:6]) == ("root", ["5,", "1"])


def _next_archive(data: bytes, position: int) -> int:
    """cpio reads ahead: the second archive starts at our `dev` directory."""
    return data.rindex(b"070701", 0, data.index(b"dev\0", data.index(b"TRAILER!!!")))


@_needs("cpio")
def test_cpio_extracts_the_contents(tmp_path):
    members = [cpio.directory("a"), cpio.file("a/f", b"hello", 0o640), cpio.symlink("a/l", "f")]
    subprocess.run(["cpio", "-id", "--quiet"], cwd=tmp_path, input=cpio.archive(members), check=True)
    assert (tmp_path / "a/l").read_bytes() == b"hello"
    assert (tmp_path / "a/f").stat().st_mode & 0o7777 == 0o640


@pytest.mark.parametrize("compress", [lzma.compress, gzip.compress], ids=["xz", "gzip"])
def test_compressed_modules_are_as_good(kernel_root, tmp_path, compress):
    names = ["virtio_ring", "virtio"]
    whole = ModuleTree.scan(kernel_root / "lib/modules" / _release(kernel_root))
    plain = resolve(names, whole.builtin, whole.find).modules
    for name, data in plain.items():
        (tmp_path / f"{name}.ko.{'xz' if compress is lzma.compress else 'gz'}").write_bytes(compress(data))
    packed = ModuleTree.scan(tmp_path)
    assert resolve(names, packed.builtin, packed.find).modules == plain


def test_a_damaged_package_is_told(kernel_packages, tmp_path):
    cut = tmp_path / kernel_packages[-1].name
    with kernel_packages[-1].open("rb") as whole:
        cut.write_bytes(whole.read(kernel_packages[-1].stat().st_size // 8))
    with pytest.raises(KernelUnsuitable, match="damaged"):
        package.read([cut], features.MODULES)
