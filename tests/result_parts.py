"""Parts that made-up results of benchmarks are put together from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from allfocus.benchmarks.common import stats

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
MACHINE = {"cpu": "a CPU", "cores": 2}
LATENCY: dict[str, Any] = {  # a result but for its rows
    "schema": "allfocus/latency/2",
    "machine": MACHINE,
    "model": "didanet-lite",
    "size": "600x400",
    "threads": 2,
    "skip": "off",
}


def spread(samples: Sequence[float]) -> dict[str, float]:
    return dataclasses.asdict(stats(samples))


BY: dict[str, Any] = {"backend": "cpu", "precision": "fp32", "weights_sha256": "ab" * 32}
NO_MAP: dict[str, Any] = {"map": None, "detection": None, "bands": []} | BY
