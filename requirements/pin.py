"""Print the versions of every package installed here, as the constraints of requirements/dev.txt.

Run by ``make pins`` in the development environment.  ``pip freeze`` would write where a wheel was found (a folder of
this machine) and torch's build (``+cpu``), which no other machine can be asked for; this prints name and version only.
"""

from __future__ import annotations

from importlib.metadata import distributions

LEFT_OUT = {"kneerisk", "pip", "setuptools"}


def main() -> None:
    """Print one ``name==version`` a line, sorted, below a line that says how it came to be."""
    versions = {d.name.lower().replace("_", "-"): d.version.partition("+")[0] for d in distributions()}
    print("# Versions that development, CI and `make score` use; written by `make pins`.")
    for name in sorted(versions.keys() - LEFT_OUT):
        print(f"{name}=={versions[name]}")


if __name__ == "__main__":
    main()
