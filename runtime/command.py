"""What all commands share: turning errors into a line on stderr and an exit code."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence

from allfocus.runtime.errors import AllfocusError

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

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130


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
    except KeyboardInterrupt:
        print("allfocus: interrupted; nothing half-written was kept", file=sys.stderr)
        return INTERRUPTED


def _speak_plainly() -> None:
    """Let stdout take any file's name, and give each line at once to whoever reads it."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # there may be none, or a stand-in for it
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")


def _report(error: AllfocusError, args: argparse.Namespace) -> int:
    if getattr(args, "json", False):
        print(json.dumps({"error": str(error), "kind": type(error).__name__}))
    print(f"allfocus: {error}", file=sys.stderr)
    return error.exit_code


def _missing(error: ModuleNotFoundError) -> AllfocusError:
    """What to install for an optional package; any other missing module is a fault of ours."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        raise error
    return AllfocusError(
        f"this command needs {package}, which is not installed: "
        f'pip install "allfocus[{EXTRAS[package]}]"'
    )


def script(prog: str, description: str, add: Add, run: Run, argv: Sequence[str] | None) -> int:
    """A module's own `main`: the same command as `allfocus NAME`, run by its path."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    add(parser)
    return guarded(run, parser.parse_args(argv))


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
