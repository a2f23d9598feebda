"""The object a caller holds: frames in, sharp frames out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from allfocus.runtime.backend import Array, Backend
from allfocus.runtime.clock import Clock
from allfocus.runtime.closing import Closing
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.flows import Direct, Flow, Phased
from allfocus.runtime.frame import checked, from_color, on_device, size_of, to_color
from allfocus.runtime.memory import parse_bytes
from allfocus.runtime.skip import AUTO, Choice, skip_for
from allfocus.runtime.spec import Color, Graph, Size, Spec
from allfocus.runtime.stage import Stage

MEMORY = "2GiB"  # what frames may take by default, beside the model

Phases = Callable[[], tuple[Backend, Backend]]  # opens `estimate` and `restore` of a model


@dataclass(frozen=True)
class Result:
    """What came out for one frame.

    `image` has the frame's shape, dtype and channel order. `defocus` is float32 [H, W], the blur
    radius in pixels, and `focus` is float32 [H, W], 1 where it is in focus and 0 where it is not;
    each is None where the model does not estimate it. `timings` are milliseconds: `pre`
    (checks, padding, conversion), `infer` and `post`.

    `skipped` is the share of the pixels, from 0 to 1, that were in focus and passed through.
    `copies` counts those between host and GPU that the frame took.

    For a frame in GPU memory, `image` and `defocus` are the engine's own outputs, of the frame's
    size, in GPU memory and in the layout that `Graph` names: the map is 1 at `Spec.max_radius`
    pixels, and `infer` is the whole time.
    """

    image: Any
    defocus: Any | None
    timings: dict[str, float]
    focus: Any | None = None
    skipped: float = 0.0
    copies: int = 0


class Deblurrer(Closing):
    """A loaded model: `deblur(frame) -> Result`. Made by `allfocus.load`; closes with `with`.

    Calls from several threads wait for each other. The first call of each frame size is slower:
    engines prepare themselves for it.
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
    ) -> None:
        self.spec: Spec = backend.spec
        self.graph: Graph = backend.graph
        self.backend: str = backend.name
        self.color: Color = color
        self.reasons = list(reasons)  # (backend, why it was not taken)
        self.memory = parse_bytes(memory)
        self._skip = skip_for(skip, backend.spec, backend.graph.signature)
        if phases is None and not isinstance(skip, str):
            raise UsageError(
                f"skip={skip:g}: the map must come before the rest, and there are no files of the "
                f"two phases of {backend.artefact.name}: load a packaged model by its name, or "
                f"`allfocus export --model {self.spec.name} --phase estimate` and `restore`"
            )
        self._backend = backend
        self._direct = Direct(Stage(backend, color, self.memory))
        self._phases = phases
        self._coarse_map = coarse_map
        self._borrowed = False  # a variant: what it uses belongs to another
        self._opened: tuple[Backend, ...] = ()
        self._phased: Phased | None = None
        self._lock = Lock()

    def __call__(self, frame: Any) -> Result:
        """Deblur one frame: uint8 [H, W, 3] in `color` order, of any size.

        Also uint16, and float32 in [0, 1], where the artefact was exported with `--io float`; grey
        [H, W] or [H, W, 1]; [H, W, 4], whose alpha is carried over. A frame in GPU memory goes to a
        TensorRT engine as it is. Raises InputError for anything else.
        """
        with self._lock:
            self._backend.check_open()
            return self._on_device(frame) if on_device(frame) else self._on_host(frame)

    def variant(self, *, skip: Choice = AUTO, coarse_map: bool = False) -> Deblurrer:
        """A quicker way to use the same loaded model, such as for a step of a pipeline's ladder.

        `skip` as in `load`. `coarse_map`: the map is estimated on the frame at half its size, at a
        quarter of the cost, and less exactly. It takes no memory of its own for the model, and ends
        with the one it comes from. Raises UsageError where there are no files of the two phases.
        """
        if self._phases is None:
            raise UsageError(
                f"{self._backend.artefact.name} has no files of its two phases, without which "
                "there is no other way through it: load a packaged model by its name"
            )
        other = Deblurrer(
            self._backend,
            color=self.color,
            reasons=self.reasons,
            phases=self._open_phases,
            memory=self.memory,
            skip=skip,
            coarse_map=coarse_map,
        )
        other._borrowed = True
        return other

    def _open_phases(self) -> tuple[Backend, Backend]:
        """Both phases, opened once for this Deblurrer and its variants."""
        if not self._opened:
            assert self._phases is not None
            self._opened = self._phases()
        first, second = self._opened
        return first, second

    def _on_host(self, frame: Any) -> Result:
        clock = Clock()
        given = checked(frame, self.graph.io)
        drawn = self._flow(size_of(given)).draw(to_color(given), clock)
        result = from_color(drawn.sharp, given)
        radius = _scaled(drawn.defocus, self.spec.max_radius)
        focus = _scaled(drawn.focus, 1.0)
        clock.lap("post")
        return Result(result, radius, clock.timings, focus, drawn.skipped, clock.copies)

    def _flow(self, size: Size) -> Flow:
        """Two graphs where parts are left out, or where one would have to be cut to pieces."""
        whole = self._skip is None and not self._coarse_map and self._direct.fits(size)
        if self._phases is None or whole:
            return self._direct
        if self._phased is None:
            opened = self._open_phases()
            stages = [Stage(each, self.color, self.memory, shared=2) for each in opened]
            self._phased = Phased(stages[0], stages[1], self._skip, coarse_map=self._coarse_map)
        return self._phased

    def _on_device(self, frame: Any) -> Result:
        order = self.graph.color if self.graph.io == "frame" else "rgb"
        if order != self.color:
            raise InputError(
                f"frame on a GPU in {self.color} order: the engine takes {order}, and such frames "
                f'go in as they are: give {order} frames and load with color="{order}"'
            )
        clock = Clock()
        outputs = self._backend.infer_device(frame)
        clock.lap("infer")
        return Result(outputs.sharp, outputs.defocus, clock.timings, outputs.focus)

    def close(self) -> None:
        """Release the engine; a second call does nothing, a later frame raises ArtefactError."""
        with self._lock:
            if self._borrowed:
                return
            for backend in (self._backend, *self._opened):
                backend.close()


def _scaled(plane: Array | None, scale: float) -> Array | None:
    """A map [H, W] times `scale`, as float32."""
    return None if plane is None else np.multiply(plane, scale, dtype=np.float32)
