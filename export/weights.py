"""Where an export's weights come from: the package, a file, or a random generator."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from allfocus.runtime.artefacts import packaged_weights
from allfocus.runtime.catalogue import entry
from allfocus.runtime.errors import CheckpointError, UsageError
from allfocus.runtime.manifest import sha256
from allfocus.runtime.spec import Spec

if TYPE_CHECKING:
    from allfocus.train.models.base import Net

log = logging.getLogger("allfocus")

OPTION = "FILE (.safetensors, .pth) or random[:SEED]"


@dataclass(frozen=True)
class Weights:
    """Weights of a model: those of `path`, or random ones from `seed` where `path` is None."""

    path: Path | None
    seed: int = 0

    def identity(self) -> str:
        """What the cache key holds: the SHA-256 of the file, or the seed."""
        return f"random:{self.seed}" if self.path is None else sha256(self.path)

    def load(self, model: str) -> tuple[Net, Spec]:
        """The net `model` in float32, ready for inference, and its Spec.

        Raises CheckpointError where the weights do not belong to it.
        """
        from allfocus.train import checkpoint

        if self.path is None:
            net, spec = checkpoint.random(model, self.seed)
        else:
            net, spec = checkpoint.load(model, self.path)
        return net.eval(), spec


def parse(text: str | None, model: str) -> Weights:
    """Read `--weights`; None means the packaged weights of `model`.

    Where the package has none, random ones stand in, and a warning says so: the export can be
    tried and timed, but its pictures are worth nothing.

    Raises UnknownModelError, UsageError for a seed that is not a number, and CheckpointError where
    there is no such file. A file that is called "random" is given as ./random.
    """
    entry(model)
    if text is None:
        return _packaged(model)
    kind, colon, seed = text.partition(":")
    if kind != "random":
        return _file(Path(text).expanduser())
    if colon and not (seed.isdecimal() and int(seed) < 2**63):
        raise UsageError(
            f"--weights {text}: expected random or random:SEED, such as random:0, under 2^63"
        )
    return Weights(None, int(seed or 0))


def _packaged(model: str) -> Weights:
    path = packaged_weights(model)
    if path.is_file():
        return Weights(path)
    log.warning(
        "there are no trained weights of %r in the package: random ones stand in, good for trying "
        "and timing only; --weights FILE takes trained ones",
        model,
    )
    return Weights(None)


def _file(path: Path) -> Weights:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; --weights takes {OPTION}")
    return Weights(path)
