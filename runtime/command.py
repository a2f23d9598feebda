"""What all commands share: turning errors into a line on stderr and an exit code."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from allfocus.runtime.errors import AllfocusError

Add = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], int]

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130


def guarded(run: Run, args: argparse.Namespace) -> int:
    """Call `run`; report an AllfocusError as one line (or one JSON object) and its exit code."""
    try:
        return run(args)
    except AllfocusError as error:
        if getattr(args, "json", False):
            print(json.dumps({"error": str(error), "kind": type(error).__name__}))
        print(f"allfocus: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("allfocus: interrupted; nothing half-written was kept", file=sys.stderr)
        return INTERRUPTED


def script(prog: str, description: str, add: Add, run: Run, argv: Sequence[str] | None) -> int:
    """A module's own `main`: the same command as `allfocus NAME`, run by its path."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    add(parser)
    return guarded(run, parser.parse_args(argv))


def positive(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)
