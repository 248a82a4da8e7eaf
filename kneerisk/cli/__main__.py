"""``python -m kneerisk.cli``."""

from kneerisk.cli import main

main()
