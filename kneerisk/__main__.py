"""``python -m kneerisk``: the command line."""

from kneerisk.cli import main

if __name__ == "__main__":
    main()
