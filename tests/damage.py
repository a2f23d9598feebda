"""Damaged copies of a file, as a broken download or disk leaves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

KINDS = ("empty", "text", "noise", "half", "all but a little")


def damaged(path: Path, folder: Path, kind: str) -> Path:
    """A copy in `folder` that is called `damaged`, with the suffix of `path`."""
    whole = path.read_bytes()
    content = {
        "empty": b"",
        "text": b"not a graph at all",
        "noise": np.random.default_rng(0).bytes(4096),
        "half": whole[: len(whole) // 2],
        "all but a little": whole[:-100],
    }[kind]
    made = folder / f"damaged{path.suffix}"
    made.write_bytes(content)
    return made
