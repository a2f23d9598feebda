"""Which way frames take through a model: turned, reduced, in one graph or in two."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from allfocus.runtime.ensemble import Turned
from allfocus.runtime.errors import LimitError
from allfocus.runtime.flows import Direct, Flow, Guided, Phased, check_room
from allfocus.runtime.form import Form
from allfocus.runtime.reach import Levels
from allfocus.runtime.skip import Skip
from allfocus.runtime.spec import Size
from allfocus.runtime.stage import Stage
from allfocus.runtime.trust import Checker
from allfocus.runtime.turn import Turn

Stages = Callable[[], tuple[Stage, Stage]]  # makes `estimate` and `restore` ready


@dataclass
class Lane:
    """What one call at a time works with: it keeps buffers, which the next call writes over."""

    direct: Direct
    checker: Checker | None
    stages: Stages | None  # None: there are no files of the phases
    _phased: dict[tuple[Skip | None, bool, tuple[Turn, ...]], Phased] = field(
        default_factory=dict
    )  # as needed
    _guided: dict[Skip | None, Guided] = field(default_factory=dict)

    def phased(
        self, skip: Skip | None, *, coarse_map: bool, looks: tuple[Turn, ...] = (Turn(),)
    ) -> Phased:
        """The model in two graphs."""
        way = (skip, coarse_map, looks)
        if way not in self._phased:
            assert self.stages is not None
            self._phased[way] = Phased(*self.stages(), skip, looks=looks, coarse_map=coarse_map)
        return self._phased[way]

    def guided(self, skip: Skip | None) -> Guided:
        """The second graph, under a map from outside, in which nothing is noise."""
        skip = None if skip is None else replace(skip, sure=None)
        if skip not in self._guided:
            assert self.stages is not None
            self._guided[skip] = Guided(self.stages()[1], skip)
        return self._guided[skip]


@dataclass(frozen=True, kw_only=True)
class Route:
    """All that is done to frames which lie as `form` says.

    `ways`: how each is laid, of which the mean is taken. `smaller`: how many times smaller it is
    done too. `skips`: what needs no work, for each of these and for 1. `looks`: how each is laid
    for its map. `coarse_map`: that is one of half the size.
    """

    form: Form
    ways: Sequence[Turn]
    smaller: tuple[int, ...]
    skips: Mapping[int, Skip | None]
    looks: tuple[Turn, ...]
    coarse_map: bool

    def flow(self, size: Size, lane: Lane, *, guided: bool = False) -> Flow:
        """For frames of a size; `guided`: under a map from outside."""
        if len(self.ways) == 1:
            return self._levels(size, lane, guided)
        levels = partial(self._levels, lane=lane, guided=guided)
        return Turned(self.ways, levels, self.form)

    def check_room(
        self, size: Size, lane: Lane, judge: Checker | None, *, guided: bool = False
    ) -> None:
        """Raise LimitError where there is too little memory for a frame of a size, or to `judge`
        what becomes of it: first of all for a pass over the frame as it lies."""
        upright = self._levels(size, lane, guided).frames(size)
        check_room(upright + (judge.frames(size) if judge else []))
        if len(self.ways) == 1:
            return
        try:
            check_room(self.flow(size, lane, guided=guided).frames(size))
        except LimitError as error:
            turned = Size(size.height, size.width)
            raise LimitError(
                f"ensemble={len(self.ways)} takes a frame of {size} as one of {turned} too: {error}"
            ) from None

    def _levels(self, size: Size, lane: Lane, guided: bool) -> Flow:
        """One pass of it."""
        if not self.smaller:
            return self._one(size, lane=lane, guided=guided)
        return Levels(self.smaller, partial(self._one, lane=lane, guided=guided), self.form)

    def _one(self, size: Size, times: int = 1, *, lane: Lane, guided: bool) -> Flow:
        """Two graphs where parts are left out, where one would have to be cut to pieces, and where
        one would pad the frame: a net that deblurs under a map takes nearly any size, its estimator
        does not. `size` is that of a picture `times` times smaller than the frame.
        """
        skip = self.skips[times]
        if guided:
            return lane.guided(skip)
        direct = lane.direct
        padded = direct.maps and direct.mirrors(size)
        as_ever = skip is None and not self.coarse_map and len(self.looks) == 1
        whole = as_ever and direct.fits(size) and not padded
        if whole or lane.stages is None:
            return direct
        return lane.phased(skip, coarse_map=self.coarse_map, looks=self.looks)
