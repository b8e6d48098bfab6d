"""What `import propolis` gives, in an interpreter that has imported nothing else of it."""

import subprocess
import sys

import propolis


def test_everything_that_the_package_offers_can_be_reached_by_one_import():
    program = (
        "import propolis\nfor name in dir(propolis): getattr(propolis, name)\npropolis.images.list, propolis.disk.build"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_completion_knows_what_is_imported_later():
    assert {*propolis.__all__, "disk", "images", "progress"} <= {*dir(propolis)}
