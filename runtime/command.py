"""What all commands share: turning errors into a line on stderr and an exit code."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from allfocus.runtime.errors import AllfocusError, UsageError

log = logging.getLogger("allfocus")

Add = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], int]

# Which extra of this project brings a package that not every command needs.
EXTRAS = {
    "torch": "export",
    "onnx": "export",
    "onnxscript": "export",
    "safetensors": "export",
    "polygraphy": "export",
    "onnxruntime": "cpu",
    "openvino": "openvino",
    "tensorrt": "trt",
    "tensorrt_rtx": "trt-rtx",
    "cuda": "trt-rtx",
    "matplotlib": "bench",
    "psutil": "bench",
    "scipy": "bench",
    "skimage": "bench",
}

_OF_TRAINING = ("torch", "safetensors")  # is all that training needs of [export]
_SMALLER = (
    "that is more memory than there is; give smaller pictures or a smaller --size, or do less at "
    "once"
)
DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130


class Parser(argparse.ArgumentParser):
    """One that tells wrong use as all else is told, in JSON where that is asked for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)  # `--js` would be `--json` to it alone

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, after how it is used."""
        self.print_usage(sys.stderr)
        raise UsageError(message)


def guarded(run: Run, args: argparse.Namespace) -> int:
    """Call `run`; report an AllfocusError as one line (or one JSON object) and its exit code.

    A package that is missing is reported so too, with the extra to install.
    """
    _speak_plainly()
    try:
        return run(args)
    except AllfocusError as error:
        return _report(error, args)
    except ModuleNotFoundError as error:
        return _report(_missing(error), args)
    except MemoryError as error:
        return _report(AllfocusError(f"{error or 'no memory is left'}: {_SMALLER}"), args)
    except BrokenPipeError:  # who read stdout has gone: there is nobody left to tell
        _leave_stdout()
        return FAILED
    except OSError as error:
        if error.errno is None or error.strerror is None:  # no answer of the system's
            raise
        log.debug("the system's refusal", exc_info=True)
        return _report(_refused(error), args)
    except KeyboardInterrupt:
        told = "interrupted; nothing half-written was kept"
        _print_error({"error": told, "kind": "KeyboardInterrupt"}, args)
        print(f"allfocus: {told}", file=sys.stderr)
        return INTERRUPTED


def _speak_plainly() -> None:
    """Let stdout take any file's name, and give each line at once to whoever reads it."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # there may be none, or a stand-in for it
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")


def _leave_stdout() -> None:
    """What is left in its buffer would be an error again when the interpreter ends."""
    with suppress(OSError, ValueError):  # a stand-in for stdout has no file
        target = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, target)
        os.close(nowhere)


def _refused(error: OSError) -> AllfocusError:
    """A file or folder that the system does not give, in words."""
    where = "" if error.filename is None else f"{error.filename}: "
    return AllfocusError(
        f"{where}{error.strerror}: see that the name is right, and that it may be read or written"
    )


def _print_error(told: dict[str, str], args: argparse.Namespace) -> None:
    if getattr(args, "json", False):
        print(json.dumps(told))


def _report(error: AllfocusError, args: argparse.Namespace) -> int:
    _print_error({"error": str(error), "kind": type(error).__name__}, args)
    print(f"allfocus: {error}", file=sys.stderr)
    return error.exit_code


def _missing(error: ModuleNotFoundError) -> AllfocusError:
    """What to install for an optional package; any other missing module is a fault of ours."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        raise error
    to_train = ', or, to train alone, "allfocus[train]"' if package in _OF_TRAINING else ""
    return AllfocusError(
        f"this command needs {package}, which is not installed: "
        f'pip install "allfocus[{EXTRAS[package]}]"{to_train}'
    )


def script(prog: str, description: str, add: Add, run: Run, argv: Sequence[str] | None) -> int:
    """A module's own `main`: the same command as `allfocus NAME`, run by its path."""
    words = list(sys.argv[1:] if argv is None else argv)

    def run_words(_: argparse.Namespace) -> int:
        return parsed(prog, description, add, run, words)

    return guarded(run_words, argparse.Namespace(json="--json" in words))


def parsed(prog: str, description: str, add: Add, run: Run, words: Sequence[str]) -> int:
    """Call `run` with what `words` say; raises UsageError where they cannot be meant."""
    parser = Parser(prog=prog, description=description)
    add(parser)
    return run(parser.parse_args(words))


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    return _whole(text, 1)


def not_negative(text: str) -> int:
    """An argparse type: a whole number of at least 0."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        message = f"expected a whole number of at least {least}, got {text!r}"
        raise argparse.ArgumentTypeError(message)
    return int(text)
