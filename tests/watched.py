"""What the tests of `allfocus watch` share: a net that inverts, and pictures of one value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from specs import SPEC

from allfocus.runtime import model_options, watch_command
from allfocus.runtime.backend import Backend, Options
from allfocus.runtime.command import script
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.ledger import FOLDER
from allfocus.runtime.signature import Signature
from allfocus.runtime.spec import Graph, Spec

KEPT = f"{FOLDER}/ledger.jsonl"  # all that a watch leaves beside the outputs


class Inverted(Backend):
    """Gives 255 less what it gets, and a flat map."""

    name = "inverted"

    def _load(self) -> tuple[Spec, Graph]:
        spec = replace(SPEC, name="inverted", halo=0, max_radius=10.0)
        signature = Signature(("image",), ("sharp", "defocus"))
        return spec, Graph(
            io="frame", precision="fp32", color="rgb", shapes=None, signature=signature
        )

    def _run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        image = inputs["image"]
        return {"sharp": 255 - image, "defocus": np.ones(image.shape[:3], np.float32) / 2}

    def _close(self) -> None:
        pass


def load_inverted(model: str, **_: Any) -> Deblurrer:
    return Deblurrer(Inverted(Path(model), Options()))


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to an empty place with a folder `in` that is watched, by the net that inverts."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(model_options, "load", load_inverted)
    Path("in").mkdir()


def run(*words: str) -> int:
    return script("allfocus watch", "", watch_command.add_arguments, watch_command.run, words)


def once(*words: str) -> int:
    return run("in", "-o", "out", "--once", "--settle", "0", *words)


def save(path: Path | str, value: int = 100) -> Path:
    """A grey picture of one value, renamed into its place."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    Image.new("L", (9, 6), value % 256).save(draft)
    return draft.rename(path)


def shown(out: Path | str = "out") -> list[str]:
    """All files that anybody sees below `out`."""
    files = (p.relative_to(out) for p in Path(out).rglob("*") if p.is_file())
    return sorted(p.as_posix() for p in files if FOLDER not in p.parts)


def value_of(path: Path | str) -> int:
    with Image.open(path) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (6, 9)
    (value,) = np.unique(pixels)
    return int(value)
