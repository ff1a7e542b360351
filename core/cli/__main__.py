"""`python -m core.cli` is the console script `ostiary`, with this very interpreter."""

from core.cli.tree import main

main()
