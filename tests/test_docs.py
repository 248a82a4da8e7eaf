"""The documents are true to the code: the table's page, links, commands and options."""

import re
import runpy
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from kneerisk.cli import plugins
from kneerisk.cli.app import app
from kneerisk.stack.stack import Stack

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "examples" / "cohort" / "ATTRIBUTION.md",
    Stack.load("compact").folder / "MODEL_CARD.md",
]
# A changelog tells of what was, too.
PRESENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
GUIDES = [page for page in PAGES if page.parent == ROOT / "docs" or page.name == "README.md"]
CLI = typer.main.get_command(app)


def of_root(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> Iterator[str]:
    """The lines of a page's console blocks, those that a backslash carries on joined."""
    found = re.findall(r"^```console\n(.*?)^```$", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for block in found:
        yield from block.replace("\\\n", " ").splitlines()


def spans(page: Path) -> Iterator[str]:
    """What stands in backticks in a page's prose; a table's escaped bars are bars."""
    for span in re.findall(r"`([^`]+)`", prose(page)):
        yield " ".join(span.replace("\\|", "|").split())


def heading_links(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def below(command: Any) -> dict[str, Any]:
    """A group's commands by name, other packages' too; of another command none."""
    own: dict[str, Any] = getattr(command, "commands", {})
    return own | _plugged_in() if command is CLI else own


@cache
def _plugged_in() -> dict[str, Any]:
    return {name: plugins.loaded(entry) for name, entry in plugins.found().items()}


def command_of(words: list[str]) -> tuple[Any, str, list[str]]:
    """The command that ``kneerisk WORD …`` means, its name, and the words behind it."""
    command, name = CLI, "kneerisk"
    while below(command) and words and not words[0].startswith("-"):
        assert words[0] in below(command), f"{name} has no command {words[0]!r}"
        command, name, words = below(command)[words[0]], f"{name} {words[0]}", words[1:]
    return command, name, words


def options(command: Any) -> set[str]:
    return {"--help", "-h", *(o for p in command.params for o in (*p.opts, *p.secondary_opts))}


def every_option(command: Any) -> set[str]:
    return options(command).union(*(every_option(c) for c in below(command).values()))


def command_lines() -> list[Any]:
    """Every ``kneerisk …`` of the guides' console blocks, as a parameter."""
    lines = [(page, shlex.split(line, comments=True)) for page in GUIDES for line in blocks(page)]
    return [
        pytest.param(words[1:], id=f"{page.name}: {' '.join(words)}")
        for page, words in lines
        if words[:1] == ["kneerisk"]
    ]


def test_the_page_of_the_table_is_what_the_code_says() -> None:
    written = runpy.run_path(str(ROOT / "docs" / "write_table.py"))["page"]()
    assert (ROOT / "docs" / "table.md").read_text("utf-8") == written, "docs/table.md is stale: run make docs"


@pytest.mark.parametrize("page", PAGES, ids=of_root)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?:|mailto:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in heading_links(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("words", command_lines())
def test_commands_in_blocks_parse(words: list[str]) -> None:
    """Names, options and values as the command line takes them; nothing is run."""
    command, name, rest = command_of(words)
    assert not below(command), f"{name} is no command by itself"
    command.make_context(name, rest)


@pytest.mark.parametrize("page", PRESENT, ids=of_root)
def test_commands_in_prose_exist_with_their_options(page: Path) -> None:
    for span in spans(page):
        if not span.startswith("kneerisk "):
            continue
        # kneerisk train vqvae|diffusion stands for each of them, kneerisk compile is one alone.
        words = span.split()[1:]
        depth = 2 if words[0] in below(CLI) and below(below(CLI)[words[0]]) else 1
        *before, last = words[:depth]
        for choice in last.split("|"):
            command, name, _ = command_of([*before, choice])
            given = {word.partition("=")[0] for word in words[depth:] if re.match(r"--?[a-z]", word)}
            assert given <= options(command), f"`{span}`: {name} has no {sorted(given - options(command))}"


@pytest.mark.parametrize("page", GUIDES, ids=of_root)
def test_options_on_their_own_are_options_of_some_command(page: Path) -> None:
    named = {
        word for span in spans(page) if span.startswith("--") for word in re.findall(r"--[a-z][a-z-]*", span)
    }
    assert named <= every_option(CLI)


@pytest.mark.parametrize("page", PRESENT, ids=of_root)
def test_make_targets_and_modules_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for text in (*blocks(page), *spans(page)):
        if found := re.match(r"make ([a-z]+)\b", text):
            assert found[1] in targets, text
        for module in re.findall(r"python -m ((?:benchmarks|kneerisk\w*)[\w.]*)", text):
            homes = (ROOT, ROOT / "engines", ROOT / "train")
            path = module.replace(".", "/")
            assert any(
                (home / f"{path}.py").exists() or (home / path / "__main__.py").exists() for home in homes
            ), text


def test_the_citation_has_the_fields_that_its_format_asks_for() -> None:
    """What Citation File Format 1.2.0 requires, of the software and of what it rests on."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert all("family-names" in person or "name" in person for person in citation["authors"])
    references = citation["references"]
    assert all({"type", "title", "authors"} <= reference.keys() for reference in references)
