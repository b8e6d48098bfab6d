"""`make bench-pull`: pulls of a 1 GB image of 12 layers from docker-registry on loopback, beside skopeo, in one run.

skopeo only copies and hashes blobs into an OCI layout; propolis also unpacks each layer and makes its disk, as podman
makes its directories, if that is installed. What that part takes is the same image from an OCI layout on this host.
Nothing is asserted.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import images
from propolis.testing.images import Directory, Tree, write_layout
from registries import docker_registry

PROPOLIS = Path(sys.executable).with_name("propolis")
ROUNDS = 5
LAYERS = 12
FILES = 170
TEXT = b"some lines of text that can be compressed as well as programs can, more or less\n" * 30


def main() -> None:
    """Measure and print; with a directory as argument, make the image there."""
    if sys.argv[1:]:
        write_layout(Path(sys.argv[1]), [tree(number) for number in range(LAYERS)], config={"Cmd": ["true"]})
        return
    with tempfile.TemporaryDirectory(dir=images.CACHE.parent) as scratch:
        directory = Path(scratch)
        layout = directory / "image"
        # not here: what we run would begin with our own peak of memory
        run([sys.executable, __file__, str(layout)], directory)
        blobs = sum(path.stat().st_size for path in (layout / "blobs/sha256").iterdir())
        place = directory / "registry"
        place.mkdir()
        with docker_registry(place) as address:
            copy = ["skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"]
            run([*copy, f"oci:{layout}:latest", f"docker://{address}/big"], directory)
            compare(address, layout, directory, copy, blobs)


def compare(address: str, layout: Path, directory: Path, copy: list[str], blobs: int) -> None:
    """One table; the cold ways in turn."""
    cache, copied = directory / "cache", directory / "copied"
    ways: dict[str, Callable[[], list[str]]] = {
        "skopeo copy to an OCI layout": lambda: [*copy, f"docker://{address}/big", f"oci:{copied}:x"],
        "propolis pull": lambda: [str(PROPOLIS), "pull", "-q", f"{address}/big"],
        "propolis pull oci: (no network)": lambda: [str(PROPOLIS), "pull", "-q", f"oci:{layout}"],
    }
    podman = directory / "podman"
    if shutil.which("podman"):
        places = [f"--root={podman / 'root'}", f"--runroot={podman / 'run'}", "--storage-driver=overlay"]
        podman_pull = ["podman", *places, "pull", "-q", "--tls-verify=false", f"{address}/big"]
        ways["podman pull, layers unpacked"] = lambda: podman_pull
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, command in ways.items():
            for old in (cache, copied, podman):
                shutil.rmtree(old, ignore_errors=True)
            taken[name].append(run(command(), directory))
    run(ways["propolis pull"](), directory)
    taken["propolis pull, nothing to do"] = [run(ways["propolis pull"](), directory) for _ in range(ROUNDS)]
    taken["python -c pass"] = [run([sys.executable, "-c", "pass"], directory) for _ in range(ROUNDS)]
    print(f"image of {LAYERS} layers, {blobs >> 20} MiB compressed; load {os.getloadavg()[0]:.1f}; medians of {ROUNDS}")
    floor = statistics.median(seconds for seconds, _, _ in taken["skopeo copy to an OCI layout"])
    for name, rounds in taken.items():
        seconds, cpu, memory = (statistics.median(values) for values in zip(*rounds, strict=True))
        ratio = f"{seconds / floor:5.2f} of skopeo's" if seconds > floor / 10 else ""
        print(f"  {name:<34} {seconds:7.3f} s  {cpu:6.2f} s of CPU  {memory:5.0f} MiB  {ratio}")


def tree(number: int) -> Tree:
    """Some 90 MB, of which about two fifths are left when compressed; with its directories, as docker makes layers."""
    mixed = b"".join(TEXT[: 97 * part % len(TEXT) + 900] + os.urandom(16) for part in range(190))
    files = {f"d{number}/f{part}": os.urandom(170_000) + mixed for part in range(FILES)}
    return {f"d{number}": Directory(), **files}


def run(command: list[str], directory: Path) -> tuple[float, float, float]:
    """Seconds of wall and of CPU, MiB of memory."""
    environment = os.environ | {"PROPOLIS_CACHE": str(directory / "cache"), "PROPOLIS_DATA": str(directory / "data")}
    began = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {said.decode()}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
