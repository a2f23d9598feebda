"""The option --phase of the exports: one phase of a model, or all of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from allfocus.runtime.catalogue import entry
from allfocus.runtime.signature import PHASES, Phase

_ALL = "all"


def add_phase(parser: argparse.ArgumentParser) -> None:
    """What `phases_of` reads."""
    parser.add_argument(
        "--phase",
        default="whole",
        help=f"one of {', '.join(PHASES)}, or {_ALL}: each of the model's in files of its own, so "
        "that what is in focus may be passed through, and maps may be given (whole)",
    )


def phases_of(option: str, model: str) -> list[Phase]:
    """The phases that --phase asks for; raises UnknownModelError or UsageError."""
    known = entry(model)
    if option == _ALL:
        return list(known.signatures)
    known.signature(option)  # refused where it is none
    return [option]  # type: ignore[list-item]


def as_json(option: str, reports: Mapping[Phase, dict[str, Any]]) -> str:
    """One object: the report of the phase, or "phases" with one for each of all."""
    if option == _ALL:
        return json.dumps({"phases": reports})
    (report,) = reports.values()
    return json.dumps(report)
