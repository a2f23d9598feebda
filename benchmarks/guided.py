"""Models that deblur by a map from elsewhere: another model's, or the true one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from allfocus.benchmarks.candidates import ALL, NO_VIEWS, Candidate, Given, Guide, Output, packaged
from allfocus.runtime.catalogue import entry
from allfocus.runtime.errors import UsageError
from allfocus.runtime.given_map import guidable
from allfocus.runtime.spec import Size
from allfocus.train.evaluation_pair import Pair

TRUE = "true"  # in place of a model whose maps are taken

# Of a model, what it is called in the table, and the maps that it deblurs by.
Open = Callable[[str, str | None, Guide | None], AbstractContextManager[Candidate]]


@contextmanager
def open_guided(model: str, label: str, maps: str, opened: Open) -> Iterator[Candidate]:
    """The model `model` under the maps of `maps`; what it gives is the picture alone."""
    with _source(maps, opened) as source:

        def guide(pair: Pair, given: Given) -> NDArray[np.float32]:
            radius = source.run(pair, given).defocus
            assert radius is not None, "what gives none was refused"
            return radius

        name = f"{label}, {'true map' if maps == TRUE else f'map of {source.name}'}"
        with opened(model, name, guide) as candidate:
            run = candidate.run
            yield replace(candidate, run=lambda *given: Output(image=run(*given).image))


def named(text: str) -> str:
    """What `--map-of` says. Raises UsageError for nothing, UnknownModelError for no such name."""
    maps = text.strip()
    if not maps or maps == ALL:
        raise UsageError(
            f"--map-of {text!r}: expected a model, or `{TRUE}` for the data's own maps"
        )
    if maps != TRUE and not Path(maps).suffix:
        entry(maps)
    return maps


def check(maps: str, first: Pair, opened: Open) -> None:
    """Refuse maps that are no radii for data like `first`, or data without pictures to judge by."""
    if first.sharp is None:
        raise UsageError(
            f"--map-of {maps}: these data have no sharp pictures to judge by what is deblurred so; "
            "leave it out, or take data with pairs"
        )
    small = first.cut(Size(64, 64))
    with _source(maps, opened) as source:
        if source.needs_views and first.left is None:
            raise UsageError(f"--map-of {maps}: it {NO_VIEWS}")
        if source.run(small, small.blurry).defocus is None:
            raise UsageError(
                f"--map-of {maps}: it gives no map of blur radii here; take a model that does, "
                f"such as didanet-lite, or `{TRUE}` where the data have maps (`defocus/`)"
            )


def taking(maps: str, models: Mapping[str, bool]) -> tuple[list[str], list[str]]:
    """Of models, each with whether it takes a map from outside: those that do, and notes for those
    that would, if only their phases were there. Raises UsageError where none does.
    """
    able = [model for model, takes in models.items() if takes]
    if not able:
        raise UsageError(
            f"--map-of {maps}: none of {', '.join(models)} takes a map from outside, which takes a "
            "model by its name, with files of both phases. Packaged are those of "
            f"{', '.join(filter(guidable, packaged()))}"
        )
    without = [m for m in models if m not in able and (guidable(m) or Path(m).suffix)]
    why = "that takes a model by its name, with files of both its phases"
    return able, [f"{model}: no row under --map-of {maps}: {why}" for model in without]


def _source(maps: str, opened: Open) -> AbstractContextManager[Candidate]:
    """What gives the maps."""
    if maps != TRUE:
        return opened(maps, None, None)
    truth = Candidate(name=TRUE, kind="input", run=lambda pair, _: Output(defocus=pair.radius))
    return nullcontext(truth)
