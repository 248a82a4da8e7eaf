"""``kneerisk engines``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from kneerisk.cli import options as o
from kneerisk.cli.show import echo

app = typer.Typer(
    help="The compiled engines that are here: kneerisk compile makes them.", no_args_is_help=True
)

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME...]", help="Engines, or beginnings of names; default: all."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go, and leave it.")]


@app.command("list")
def list_engines(json: o.Json = False) -> None:
    """Every engine in the cache: what it was built from and for, and whether its answers were verified."""
    from kneerisk_engines.plain import to_plain
    from kneerisk_engines.tensorrt.cache import EngineCache

    from kneerisk.cli import show

    cache = EngineCache()
    engines = list(cache.entries())
    if json:
        show.print_json(
            [
                {
                    "name": engine.folder.name,
                    "key": to_plain(engine.key),
                    "bytes": engine.plan_bytes,
                    "built": engine.built,
                    "verified": engine.verified,
                }
                for engine in engines
            ]
        )
        return
    rows = []
    for engine in engines:
        key = engine.key
        chip = key.gpu or "-".join(key.targets) or "any chip"
        state = "verified" if engine.verified else "not yet run on a GPU"
        batches = "-".join(map(str, key.batches))
        size = f"{engine.plan_bytes / 1e6:.1f} MB"
        words = f"{chip}, {key.flavour} {key.version}, batch {batches}, {size}, {state}"
        rows.append((engine.folder.name, words))
    show.blocks(rows or [("none", f"no engine is in {cache.root}: kneerisk compile builds them")])


@app.command("verify")
def verify() -> None:
    """Check every engine's manifest, size and SHA-256; nothing is run (kneerisk compile does that)."""
    from kneerisk_engines.tensorrt.cache import EngineCache

    from kneerisk.errors import ExitCode

    cache = EngineCache()
    damaged = list(cache.damaged())
    for _, words in damaged:
        echo(words, err=True)
    whole = sum(1 for _ in cache.entries()) if not damaged else None
    if damaged:
        echo(f"{len(damaged)} damaged")
        raise typer.Exit(ExitCode.ENGINE_UNVERIFIED)
    echo(f"{whole} engines are what their manifests say")


@app.command("prune")
def prune(
    names: Names = None,
    everything: Annotated[bool, typer.Option("--all", help="Every engine and every report.")] = False,
    damaged: Annotated[bool, typer.Option("--damaged", help="What is not whole.")] = False,
    failures: Annotated[bool, typer.Option("--failures", help="Reports of engines that failed.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Remove engines by name, or all, or what is damaged or failed."""
    from kneerisk_engines.tensorrt.bundle import chosen
    from kneerisk_engines.tensorrt.cache import EngineCache

    from kneerisk.errors import UsageError

    if not (names or everything or damaged or failures):
        raise UsageError("name the engines to remove, or give --all, --damaged or --failures")
    cache = EngineCache()
    with _told():
        folders = [engine.folder for engine in chosen(cache.entries(), names or [])] if names else []
        if everything or damaged:
            folders += [folder for folder, _ in cache.damaged()]
        if everything:
            folders += [engine.folder for engine in cache.entries()]
        if everything or failures:
            folders += cache.failures()
        for folder in dict.fromkeys(folders):
            echo(f"{'would remove' if dry_run else 'removed'} {folder}")
            if not dry_run:
                cache.remove(folder)


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE.tar", help="Where they go.", show_default=False)],
    names: Names = None,
) -> None:
    """Write engines into one file, to carry to a machine of the same kind."""
    from kneerisk_engines.tensorrt.bundle import chosen, export_engines
    from kneerisk_engines.tensorrt.cache import EngineCache

    cache = EngineCache()
    with _told():
        for name in export_engines(cache, chosen(cache.entries(), names or []), file):
            echo(name)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.tar", help="A bundle.", show_default=False)],
) -> None:
    """Take the engines of a bundle in, all or none. An engine is code: import only what you trust."""
    from kneerisk_engines.tensorrt.bundle import import_engines
    from kneerisk_engines.tensorrt.cache import EngineCache

    with _told():
        for engine in import_engines(EngineCache(), file):
            echo(engine.folder.name)


@contextmanager
def _told() -> Iterator[None]:
    """An engine's errors end a command as the house's own do."""
    from kneerisk_engines.errors import EngineError

    from kneerisk.errors import NoEngineError

    try:
        yield
    except EngineError as error:
        raise NoEngineError(str(error)) from error
