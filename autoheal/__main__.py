"""`python -m autoheal`."""

from autoheal.cli import main

main()
