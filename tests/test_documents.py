"""What the guides tell to type is what the commands take, and what they point to is there."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from allfocus.cli import COMMANDS
from allfocus.runtime.command import Parser

ROOT = Path(__file__).parents[1]
DOCS = tuple(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))
GUIDES = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", *DOCS)
PROSE = ("CONTRIBUTING.md", "docs/models.md", "docs/program.md", "docs/results.md")  # no commands


def commands(text: str) -> list[list[str]]:
    """The words of each line in a block of shell that calls this project."""
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        for line in re.split(r"\n|&&", block.replace("\\\n", " "))
    ]
    found = [shlex.split(line, comments=True) for line in lines]
    return [words for words in found if words and module_of(words)]


def module_of(words: list[str]) -> tuple[str, list[str]] | None:
    """The module of a command, and the words that are for it; None for what is not ours."""
    if words[:2] == ["python", "-m"]:
        return words[2], words[3:]
    if words[0] == "python" and (ROOT / words[1]).is_file():
        return f"allfocus.{words[1].removesuffix('.py').replace('/', '.')}", words[2:]
    if words[0] != "allfocus":
        return None
    name = " ".join(words[1:3]) if " ".join(words[1:3]) in COMMANDS else words[1]
    return COMMANDS[name].module, words[1 + len(name.split()) :]


@pytest.mark.parametrize("guide", GUIDES)
def test_commands_are_understood(guide: str) -> None:
    found = commands((ROOT / guide).read_text(encoding="utf-8"))
    assert found or guide in PROSE
    for words in found:
        known = module_of(words)
        assert known is not None
        module, rest = known
        parser = Parser(prog=" ".join(words))
        import_module(module).add_arguments(parser)
        parser.parse_args([word for word in rest if word != "..."] or rest)


def test_a_command_that_is_not_understood_would_be_seen() -> None:
    text = "```sh\nallfocus train --modle x  # such\nls\n```\n"
    (words,) = commands(text)
    assert module_of(words) == ("allfocus.train.train", ["--modle", "x"])


def test_every_command_is_listed() -> None:
    text = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    listed = [" ".join(words) + " " for words in commands(text)]
    assert [name for name in COMMANDS if not any(f"allfocus {name} " in x for x in listed)] == []


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("guide", GUIDES)
def test_links_lead_somewhere(guide: str) -> None:
    page = ROOT / guide
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text("utf-8")):
        if target.startswith("http"):
            continue
        found = page.parent / target if target else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found.read_text("utf-8")), f"{target}#{anchor}"


def test_every_page_is_reached_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page for page in DOCS if f"]({page})" not in text] == []
