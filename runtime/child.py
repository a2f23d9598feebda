"""Python in a process of its own, where a measurement must not see what else this one holds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from allfocus.runtime.errors import AllfocusError


def output_of(arguments: Sequence[str], what: str) -> str:
    """What `python ARGUMENTS` prints; raises AllfocusError, with `what` failed and why."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [_silent(done.returncode)])[-1]
        raise AllfocusError(f"{what} failed: {last}")
    return done.stdout


def _silent(code: int) -> str:
    """What is known of a process that ended without a word."""
    return f"killed by signal {-code}, as for too little memory" if code < 0 else "no message"
