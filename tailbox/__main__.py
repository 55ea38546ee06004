"""`python -m tailbox`."""

from tailbox.cli.main import main

main()
