"""``kneerisk doctor``."""

from __future__ import annotations

import typer

from kneerisk.cli import options as o


def doctor(json: o.Json = False) -> None:
    """What this machine can do: CPU, GPU, decoders, stacks; exit status 1 where scoring would not work."""
    from kneerisk_engines.plain import to_plain

    from kneerisk.cli import show
    from kneerisk.doctor import examine

    findings = examine()
    if json:
        show.print_json({"ready": findings.ready, "checks": to_plain(findings.checks)})
    else:
        show.checks(findings)
    raise typer.Exit(0 if findings.ready else 1)
