"""`python -m readdress` is the same program as `readdress`."""

from readdress.cli import main

main()
