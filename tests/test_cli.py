"""The command `allfocus`: dispatch, help, exit codes, and what is imported for them."""

from __future__ import annotations

import argparse
import io
import json
import shlex
import subprocess
import sys
from types import ModuleType

import pytest

import allfocus
from allfocus import cli
from allfocus.runtime.command import EXTRAS, script
from allfocus.runtime.errors import InputError


def stand_in(monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None) -> list[str]:
    """Put a command `echo` in place that notes its words, then raises `error`."""
    heard: list[str] = []

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("words", nargs="*")
        parser.add_argument("--json", action="store_true")

    def run(args: argparse.Namespace) -> int:
        heard.extend(args.words)
        if error is not None:
            raise error
        return 0

    module = ModuleType("stand_in")
    vars(module).update(add_arguments=add_arguments, run=run)
    monkeypatch.setitem(sys.modules, "stand_in", module)
    monkeypatch.setitem(cli.COMMANDS, "echo", cli.Command("stand_in", "say it again"))
    monkeypatch.setitem(cli.COMMANDS, "group echo", cli.Command("stand_in", "say it in a group"))
    return heard


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"allfocus {allfocus.__version__}\n"


def test_too_little_memory_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, MemoryError("Unable to allocate 112. GiB for an array"))
    assert cli.main(["echo", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)["error"]
    assert told.startswith("Unable to allocate 112. GiB for an array: that is more memory than")


@pytest.mark.parametrize("words", [["--help"], ["-h"]])
def test_help_lists_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in cli.COMMANDS)


def test_help_of_a_group_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--help"]) == 0
    listed = capsys.readouterr().out
    assert "bench flops" in listed
    assert "deblur" not in listed


@pytest.mark.parametrize("words", [[], ["bench"]])
def test_no_command_is_wrong_use(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert "usage: allfocus COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["deblr", "a.jpg"], "unknown command 'deblr': did you mean 'deblur'?"),
        (["bench", "flop"], "unknown command 'bench flop': did you mean 'bench flops'"),
        (["qqqq"], "unknown command 'qqqq': known: batch, bench ablation, bench "),
    ],
)
def test_an_unknown_command_is_offered_the_nearest(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("name", ["echo", "group echo"])
def test_a_command_gets_the_words_behind_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    heard = stand_in(monkeypatch)
    assert cli.main([*name.split(), "echo", "group"]) == 0
    assert heard == ["echo", "group"]


def test_a_wrong_option_is_wrong_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch)
    assert cli.main(["echo", "--loud"]) == 2
    said = capsys.readouterr()
    assert "usage: allfocus echo" in said.err
    assert "allfocus: unrecognized arguments: --loud" in said.err
    assert said.out == ""
    assert cli.main(["echo", "--loud", "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told == {"error": "unrecognized arguments: --loud", "kind": "UsageError"}
    assert cli.main(["echo", "--js"]) == 2  # no abbreviations, which nothing else would see


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (PermissionError(13, "Permission denied", "a/b"), 1, "a/b: Permission denied: see that"),
        (OSError(36, "File name too long"), 1, "File name too long: see that the name is right"),
        (KeyboardInterrupt(), 130, "interrupted; nothing half-written was kept"),
    ],
)
def test_what_the_system_refuses_is_told(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    said: str,
) -> None:
    stand_in(monkeypatch, error)
    assert cli.main(["echo"]) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"allfocus: {said}")
    assert cli.main(["echo", "--json"]) == status
    assert json.loads(capsys.readouterr().out)["error"].startswith(said)


def test_a_reader_that_has_gone_ends_it_quietly() -> None:
    code = """
import sys
from allfocus.runtime.command import script

def run(args):
    for number in range(100_000):
        print(number)
    return 0

sys.exit(script("count", "", lambda parser: None, run, []))
"""
    command = (
        f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} | head -n 1; exit ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, "0\n", "")


def test_an_error_is_one_line_or_one_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, InputError("too dark"))
    assert cli.main(["echo"]) == 1
    assert capsys.readouterr() == ("", "allfocus: too dark\n")
    assert cli.main(["echo", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"error": "too dark", "kind": "InputError"}


@pytest.mark.parametrize("by_path", [False, True])
def test_any_name_can_be_printed(monkeypatch: pytest.MonkeyPatch, by_path: bool) -> None:
    """Names are bytes; those that are no text of stdout's encoding must not end a command."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "utf-8", errors="strict"))

    def run(_: argparse.Namespace) -> int:
        print("\udcff.png")
        assert raw.getvalue() == b"\\udcff.png\n", "at once, for whoever reads along"
        return 0

    if by_path:
        assert script("echo", "", lambda _: None, run, []) == 0
    else:
        stand_in(monkeypatch)
        monkeypatch.setattr(sys.modules["stand_in"], "run", run)
        assert cli.main(["echo"]) == 0


def test_an_interruption_is_not_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, KeyboardInterrupt())
    assert cli.main(["echo"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "extra"), [("torch", "export"), ("torch.nn", "export"), ("psutil", "bench")]
)
def test_a_missing_package_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, extra: str
) -> None:
    stand_in(monkeypatch, ModuleNotFoundError(f"No module named {name!r}", name=name))
    assert cli.main(["echo"]) == 1
    assert f'pip install "allfocus[{extra}]"' in capsys.readouterr().err


def test_a_module_missing_by_our_own_fault_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, ModuleNotFoundError("No module named 'oops'", name="oops"))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["echo"])


def test_the_extras_that_are_named_exist() -> None:
    from importlib.metadata import metadata

    assert set(EXTRAS.values()) <= set(metadata("allfocus").get_all("Provides-Extra") or ())


@pytest.mark.parametrize("words", ["--help", "deblur --help", "doctor --help", "export --help"])
def test_help_imports_no_engine(words: str) -> None:
    code = f"""
import sys
from allfocus.cli import main
try:
    main({words.split()!r})
except SystemExit as stopped:
    assert stopped.code == 0, stopped.code
heavy = {set(EXTRAS)!r} & set(sys.modules)
assert not heavy, heavy
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: allfocus")


def test_python_dash_m() -> None:
    done = python("-m", "allfocus", "deblr")
    assert done.returncode == 2
    assert "did you mean 'deblur'?" in done.stderr


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_is_there(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*name.split(), "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: allfocus {name} ")
    assert "--json" in shown
