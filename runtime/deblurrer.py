"""The object a caller holds: frames in, sharp frames out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Any

import numpy as np

from allfocus.runtime.backend import Array, Backend
from allfocus.runtime.clock import Clock
from allfocus.runtime.closing import Closing
from allfocus.runtime.ensemble import MAP, Ensemble, check_looks, looks, turns
from allfocus.runtime.ensemble import check as check_ensemble
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.flows import Direct, Drawn, check_room
from allfocus.runtime.form import form_of
from allfocus.runtime.frame import checked, on_device
from allfocus.runtime.given_map import check_guided, checked_map
from allfocus.runtime.lanes import Lanes
from allfocus.runtime.layout import channels_first, channels_last
from allfocus.runtime.memory import parse_bytes
from allfocus.runtime.reach import check as check_reach
from allfocus.runtime.reach import levels, trusted
from allfocus.runtime.route import Lane, Route
from allfocus.runtime.skip import AUTO, Choice, at_level, skip_for
from allfocus.runtime.skip import check as check_skip
from allfocus.runtime.spec import YUV, Color, Graph, Precision, Spec
from allfocus.runtime.stage import Stage
from allfocus.runtime.trust import Checker, check_fallback

MEMORY = "2GiB"  # what frames may take by default, beside the model

Phases = Callable[[], tuple[Backend, Backend]]  # opens `estimate` and `restore` of a model


@dataclass(frozen=True)
class Result:
    """What came out for one frame.

    `image` has the frame's shape, dtype and channel order. `defocus` is float32 [H, W], the blur
    radius in pixels, up to about `Deblurrer.largest_radius`, and `focus` is float32 [H, W], 1 where
    it is in focus and 0 where it is not; each is None where the model does not estimate it.
    `timings` are milliseconds: `pre` (checks, padding, conversion), `infer` and `post`, and `check`
    where outputs are checked.

    `skipped` is the share of the pixels, from 0 to 1, that were in focus and passed through.
    `copies` counts those between host and GPU that the frame took.

    `trust`, where outputs are checked, is float32 [H, W] in 0 to 1: low where the output, blurred
    again, is not the input. It is that of the model's output, before anything fell back; what a
    reach undid at a smaller size is judged there.

    `precision` is what the model computed in.

    For a frame in GPU memory, `image` and `defocus` are the engine's own outputs, of the frame's
    size, in GPU memory and in the layouts that `frame_layout` names: the map is 1 at
    `Spec.max_radius` pixels, and `infer` is the whole time, but for `check`. Outputs are checked on
    the host, where `trust` is, too: both pictures are copied to it.
    """

    image: Any
    defocus: Any | None
    timings: dict[str, float]
    focus: Any | None = None
    skipped: float = 0.0
    copies: int = 0
    trust: Array | None = None
    precision: Precision | None = None


class Deblurrer(Closing):
    """A loaded model: `deblur(frame) -> Result`. Made by `allfocus.load`; closes with `with`.

    As many calls as it has `streams` may be at work at once, in threads of their own; one more
    waits until one of them is done. The first call of each frame size is slower: engines prepare
    themselves for it, each stream for itself.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        color: Color = "bgr",
        reasons: Sequence[tuple[str, str]] = (),
        phases: Phases | None = None,
        memory: str | int = MEMORY,
        skip: Choice = AUTO,
        coarse_map: bool = False,
        checker: Backend | None = None,
        fallback: float | None = None,
        ensemble: Ensemble = 1,
        reach: float | None = None,
        parent: Deblurrer | None = None,
    ) -> None:
        skip, fallback = check_skip(skip), check_fallback(fallback)
        ensemble = check_ensemble(ensemble)
        smaller = levels(check_reach(reach), backend.spec, backend.graph.signature)
        self._route = Route(
            form=form_of("image", backend.graph.io),
            ways=turns(ensemble),
            looks=looks(ensemble),
            smaller=smaller,
            skips={
                times: skip_for(at_level(skip, times), backend.spec, backend.graph.signature)
                for times in (1, *smaller)
            },
            coarse_map=coarse_map,
        )
        self.spec: Spec = backend.spec
        self.graph: Graph = backend.graph
        self.backend: str = backend.name
        self.precision: Precision = backend.precision
        self.color: Color = color
        self.reasons = list(reasons)  # (backend, why it was not taken)
        self.memory = parse_bytes(memory)
        self.ensemble = ensemble
        self.reach = reach  # pixels; None: the model's own
        self._asked_to_skip = not isinstance(skip, str)
        if phases is None and not isinstance(skip, str):
            raise UsageError(
                f"skip={skip:g}: the map must come before the rest, which takes files of both "
                f"phases beside {backend.artefact.name}; `allfocus export --model "
                f"{self.spec.name} --phase all` makes all three"
            )
        if ensemble == MAP:
            check_looks(backend, phased=phases is not None)
        self._backend = backend
        self.streams = backend.options.streams
        self._checker = checker
        self._fallback = fallback
        self._parent = parent  # of a variant: what it uses belongs to that one, also its turns
        self._phases = phases
        lanes = (self._lane() for _ in range(self.streams))
        self._lanes: Lanes[Lane] = (
            parent._lanes if parent is not None else Lanes(lanes, str(backend.artefact))
        )
        self._opened: tuple[Backend, ...] = ()
        self._opening = Lock()

    def __call__(self, frame: Any, *, defocus: Any = None) -> Result:
        """Deblur one frame: uint8 [H, W, 3] in `color` order, of any size.

        Also uint16, and float32 in [0, 1], where the artefact was exported with `--io float`; grey
        [H, W] or [H, W, 1]; [H, W, 4], whose alpha is carried over. With `--io frame16`, the same
        of uint16 alone; with `--io nv12` or `p010`, [3H/2, W] as a decoder gives it (see
        `runtime.form`), whatever `color` is. A frame in GPU memory goes to a TensorRT engine as it
        is, and as a whole: no part is passed through. Raises InputError for anything else.

        `defocus`: the blur radius in pixels, [H, W], where it is known better than the model could
        estimate it: from the two views of a dual-pixel sensor (`dualpixel-map`), a depth sensor and
        the lens, or a corrected map. Nothing is estimated then; a model's own map makes what the
        model makes. It takes a model whose deblurring takes nothing but picture and map (the
        `didanet`s), with files of its phases: UsageError.
        """
        if defocus is not None:
            self.check_guided()
        with self._lanes.one() as lane:
            self._backend.check_open()
            if on_device(frame):
                return self._on_device(frame, lane, defocus)
            return self._on_host(frame, lane, defocus)

    def check_guided(self) -> None:
        """Raise UsageError where it cannot deblur by a map from outside, as `defocus` of a call."""
        check_guided(self._backend, phased=self._phases is not None)

    @property
    def largest_radius(self) -> float:
        """The blur radius in pixels up to which maps go, by `reach`; 0 where there are none."""
        return self.spec.max_radius * max((1, *self._route.smaller))

    @property
    def checks(self) -> bool:
        """Whether outputs are checked."""
        return self._checker is not None

    def trust(self, frame: Any, sharp: Any) -> Array:
        """How well `sharp`, a version of `frame` from anywhere, explains it, float32 [H, W] in 0-1.

        Both are frames in host memory, of one size and type; see `Result.trust`. Blur of over 8
        pixels of radius is beyond the net that judges: give both reduced. Raises InputError where
        they are not, and UsageError where the model was loaded without `check`.
        """
        io = self.graph.io if self.graph.io in YUV else "float"
        given, made = (checked(each, io) for each in (frame, sharp))
        if (given.shape, given.dtype) != (made.shape, made.dtype):
            raise InputError(
                f"expected frames of one size and type, got {given.dtype} {list(given.shape)} and "
                f"{made.dtype} {list(made.shape)}"
            )
        if self._checker is None and self._parent is not None:
            return self._parent.trust(frame, sharp)
        if self._checker is None:
            raise UsageError("outputs are not checked; load the model with check=True")
        with self._lanes.one() as lane:
            assert lane.checker is not None
            opened = self._route.form.opened
            return lane.checker.trust(opened(given), opened(made), Clock())

    def variant(self, *, skip: Choice = AUTO, coarse_map: bool = False) -> Deblurrer:
        """A quicker way to use the same loaded model, such as for a step of a pipeline's ladder.

        `skip` as in `load`. `coarse_map`: the map is estimated on the frame at half its size, at a
        quarter of the cost, and less exactly. It has the same reach. Outputs are not checked, and
        of one pass each. It takes no memory of its own for the model, and ends with the one it
        comes from. Raises UsageError where one of both is asked for without files of the phases.
        """
        if self._phases is None and coarse_map:
            raise UsageError(
                f"coarse_map: {self._backend.artefact.name} has no files of its two phases, so "
                f"that its map cannot come first; `allfocus export --model {self.spec.name} "
                "--phase all` makes them"
            )
        return Deblurrer(
            self._backend,
            color=self.color,
            reasons=self.reasons,
            phases=None if self._phases is None else self._open_phases,
            memory=self.memory,
            skip=skip,
            coarse_map=coarse_map,
            reach=self.reach,
            parent=self,
        )

    def _open_phases(self) -> tuple[Backend, Backend]:
        """Both phases, opened once for this Deblurrer and its variants."""
        with self._opening:
            if not self._opened:
                assert self._phases is not None
                self._opened = self._phases()
        first, second = self._opened
        return first, second

    def _on_host(self, frame: Any, lane: Lane, defocus: Any) -> Result:
        clock = Clock()
        given = checked(frame, self.graph.io)
        form = self._route.form
        image = form.opened(given)
        size = form.size(image)
        known = None if defocus is None else checked_map(defocus, size)
        guide = None if known is None else known / self.spec.max_radius
        guided = guide is not None
        judge = lane.checker if self._checker is not None else None
        self._route.check_room(size, lane, judge, guided=guided)
        drawn = self._route.flow(size, lane, guided=guided).draw(image, clock, guide)
        sharp, trusted = self._judged(image, drawn, lane, clock)
        result = form.closed(sharp, given)
        radius = _scaled(drawn.defocus, self.spec.max_radius)
        if known is not None:
            radius = np.minimum(known, self.largest_radius)
        focus = _scaled(drawn.focus, 1.0)
        clock.lap("post")
        return Result(
            *(result, radius, clock.timings, focus, drawn.skipped, clock.copies, trusted),
            precision=self.precision,
        )

    def _judged(
        self, image: Array, drawn: Drawn, lane: Lane, clock: Clock
    ) -> tuple[Array, Array | None]:
        """An output of `image` as it is to be shown, and how far it is trusted."""
        sharp = drawn.sharp
        if self._checker is None:  # a variant's lanes have one, which it leaves alone
            return sharp, None
        assert lane.checker is not None
        own = Clock()
        judge = partial(lane.checker.trust, clock=own)
        trust = trusted(judge, image, drawn, self._route.smaller, self._route.form)
        if self._fallback is not None:
            sharp = lane.checker.fallen_back(image, sharp, trust, self._fallback)
        clock.lap("check")
        clock.copies += own.copies
        return sharp, trust

    def _lane(self) -> Lane:
        checker = None
        if self._checker is not None:
            color: Color = "rgb" if self.graph.io in YUV else self.color
            checker = Checker(self._stage(self._checker, color=color), self.graph)
        stages = None if self._phases is None else self._stages
        return Lane(Direct(self._stage(self._backend)), checker, stages)

    def _stages(self) -> tuple[Stage, Stage]:
        """Both phases, for one lane."""
        first, second = (self._stage(each, graphs=2) for each in self._open_phases())
        return first, second

    def _stage(self, backend: Backend, graphs: int = 1, *, color: Color | None = None) -> Stage:
        """One of `graphs` graphs, or one more, that share the memory."""
        return Stage(
            backend,
            color or self.color,
            self.memory,
            graphs=graphs + self._shares_with_checker,
            streams=self.streams,
            loaded=self._loaded,
        )

    @property
    def _shares_with_checker(self) -> bool:
        """Whether a checker has a part of the memory: its own, or that of the variant's model."""
        if self._parent is not None:
            return self._parent._shares_with_checker
        return self._checker is not None

    def _loaded(self) -> list[Backend]:
        """Every graph that is open."""
        if self._parent is not None:
            return self._parent._loaded()
        given = (self._backend, *self._opened, self._checker)
        return [backend for backend in given if backend is not None]

    def _on_device(self, frame: Any, lane: Lane, defocus: Any) -> Result:
        if defocus is not None:
            raise InputError(
                "frame on a GPU: its map is the engine's own there; give frames from host memory "
                "with `defocus`, or leave that out"
            )
        if self.ensemble != 1:
            raise InputError(
                f"frame on a GPU: it is not turned there, as ensemble={self.ensemble!r} would have "
                "it; give frames from host memory, or load without ensemble"
            )
        if self._route.smaller:
            raise InputError(
                f"frame on a GPU: it is not reduced there, as reach={self.reach} would have it; "
                "give frames from host memory, or load without reach"
            )
        if self._asked_to_skip or self._route.coarse_map:
            raise InputError(
                "frame on a GPU: it passes its engine as a whole, with nothing left out and no "
                'coarser map; give frames from host memory, or leave skip at "auto" and take no '
                "variant"
            )
        order = self.graph.color
        if order != self.color and self.graph.io not in YUV:
            raise InputError(
                f"frame on a GPU in {self.color} order: the engine takes {order}, and such frames "
                f'go in as they are: give {order} frames and load with color="{order}"'
            )
        clock = Clock()
        image = None if self._checker is None else self._fetched(frame, lane, clock)
        outputs = self._backend.infer_device(frame)
        clock.lap("infer")
        result = Result(
            *(outputs.sharp, outputs.defocus, clock.timings, outputs.focus),
            precision=self.precision,
        )
        if image is None:
            return result
        sharp = self._backend.fetch(outputs.sharp)
        clock.copies += 1
        drawn = Drawn(channels_last(sharp, self.graph.io))
        shown, trust = self._judged(image, drawn, lane, clock)
        if self._fallback is not None:
            back = channels_first(shown, self.graph.io).reshape(outputs.sharp.shape)
            outputs.sharp.from_host(back)
            clock.copies += 1
        return replace(result, copies=clock.copies, trust=trust)

    def _fetched(self, frame: Any, lane: Lane, clock: Clock) -> Array:
        """A frame on a GPU as a picture on the host, once there is memory to judge its output."""
        assert lane.checker is not None
        image = channels_last(self._backend.fetch(frame), self.graph.io)
        clock.copies += 1
        check_room(lane.checker.frames(self._route.form.size(image)))
        return image

    def __repr__(self) -> str:
        return f"<allfocus.Deblurrer {self.spec.name}, {self.backend}, {self.precision}>"

    def close(self) -> None:
        """Release the engine, once the calls at work are done; a second call does nothing.

        A later frame, and one that waited for its turn, raises ArtefactError.
        """
        if self._parent is not None:
            return
        self._lanes.close()
        for backend in self._loaded():
            backend.close()


def _scaled(plane: Array | None, scale: float) -> Array | None:
    """A map [H, W] times `scale`, as float32."""
    return None if plane is None else np.multiply(plane, scale, dtype=np.float32)
