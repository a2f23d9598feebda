"""Models that deblur by a map from elsewhere: another model's, or the true one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from allfocus.benchmarks.candidates import NO_VIEWS, Candidate, Given, Guide, Output, packaged
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


def check(maps: str, first: Pair, models: Sequence[str], opened: Open) -> None:
    """Refuse maps that are no radii for data like `first`, or that no model would take."""
    if not any(map(guidable, models)):
        able = ", ".join(filter(guidable, packaged()))
        raise UsageError(
            f"--map-of {maps}: none of {', '.join(models)} takes a map from outside; these do, by "
            f"their names: {able}"
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


def _source(maps: str, opened: Open) -> AbstractContextManager[Candidate]:
    """What gives the maps."""
    if maps != TRUE:
        return opened(maps, None, None)
    truth = Candidate(name=TRUE, kind="input", run=lambda pair, _: Output(defocus=pair.radius))
    return nullcontext(truth)
