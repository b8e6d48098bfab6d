"""`python -m propolis` is the `propolis` command."""

from propolis.cli.main import main

main()
