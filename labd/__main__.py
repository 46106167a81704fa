"""`python -m labd` is `labd`."""

from labd.cli.daemon import main

main()
