"""The rounds of `bench latency`: contenders that take turns on the same frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from tqdm import tqdm

from allfocus.benchmarks import gpu_time
from allfocus.benchmarks.calls import Call, Frame
from allfocus.benchmarks.common import PHOTO, rounds
from allfocus.benchmarks.contenders import Contender
from allfocus.benchmarks.memory import peak
from allfocus.benchmarks.plan import Field, Plan, Skipped
from allfocus.benchmarks.rows import Measured
from allfocus.runtime.errors import AllfocusError, BackendError
from allfocus.runtime.pictures.image import read_image
from allfocus.runtime.spec import Size

BESIDE = Size(1920, 1080)  # also timed on GPUs: is it in proportion?
_PAUSE = 0.02  # seconds before each call, in which the threads of the one before stop spinning


def photo(frame_size: Size) -> Frame:
    """The package's photo as a frame of this size: uint8 [H, W, 3], BGR."""
    image = read_image(PHOTO).pixels
    shape = (frame_size.width, frame_size.height)
    return np.asarray(cv2.resize(image, shape, interpolation=cv2.INTER_AREA), np.uint8)


class Turns:
    """The contenders of `field` that can deblur a frame, and their rounds.

    Each does one first, and one of the other size: that is the first round of warm-up. Where all
    are asked for, those that fail are left out, and `failed` says why; otherwise their error is
    raised. `beside` is the other size, None where there is none.
    """

    def __init__(self, plan: Plan, field: Field) -> None:
        self._plan = plan
        on_gpu = any(contender.device == "cuda" for contender in field.values())
        self.beside = plan.beside or (BESIDE if on_gpu else None)
        self._frame = photo(plan.size)
        self._other = None if self.beside is None else photo(self.beside)
        self.failed: Skipped = {}
        start = time.perf_counter()
        self._field = {r: c for r, c in field.items() if self._works(c, self._frame, "")}
        if not self._field:
            raise BackendError(f"nothing could deblur a frame of {plan.size}: {self.failed}")
        self._also = {c.label for c in self._field.values() if self._does_other(c)}
        self._spent = time.perf_counter() - start
        self._pictures: dict[str, Frame] = {}
        self._timed: dict[str, list[Call]] = {}

    def take(self) -> None:
        """The rest of the warm-up, and the rounds that count."""
        plan, contenders = self._plan, list(self._field.values())
        calls: dict[str, Callable[[], Call]] = {
            contender.label: partial(self._call, contender) for contender in contenders
        }
        for contender in contenders:
            if contender.label in self._also:
                calls[_other(contender)] = partial(self._call_other, contender)
        total = plan.repeats and plan.warmup - 1 + plan.repeats
        with tqdm(desc="rounds", total=total, disable=None) as bar:
            self._timed = rounds(
                calls,
                warmup=plan.warmup - 1,
                repeats=plan.repeats,
                seconds=plan.seconds - self._spent,
                tick=bar.update,
            )

    def measured(self) -> list[Measured]:
        """What `take` timed, and what would disturb it: memory, and a GPU's own time."""
        return [
            Measured(
                contender=contender,
                calls=self._timed[contender.label],
                picture=self._pictures[contender.label],
                memory=peak(recipe, self._plan.size),
                beside=self._beside(contender),
                gpu_ms=self._gpu_ms(contender),
            )
            for recipe, contender in self._field.items()
        ]

    def _beside(self, contender: Contender) -> list[float] | None:
        if contender.label not in self._also:
            return None
        return [call.total for call in self._timed[_other(contender)]]

    def _gpu_ms(self, contender: Contender) -> float | None:
        if contender.device == "cpu":
            return None
        return gpu_time.measure(partial(contender.run, self._frame))

    def _call(self, contender: Contender) -> Call:
        time.sleep(_PAUSE)
        self._pictures[contender.label], timed = contender.run(self._frame)
        return timed

    def _call_other(self, contender: Contender) -> Call:
        assert self._other is not None
        time.sleep(_PAUSE)
        return contender.run(self._other)[1]

    def _does_other(self, contender: Contender) -> bool:
        """Whether frames of the other size are timed: unless asked for, on a GPU alone."""
        if self._other is None or contender.role == "classical":
            return False
        if self._plan.beside is None and contender.device == "cpu":
            return False
        return self._works(contender, self._other, f" at {self.beside}")

    def _works(self, contender: Contender, frame: Frame, where: str) -> bool:
        try:
            contender.run(frame)
        except AllfocusError as error:
            if not self._plan.every:
                raise
            self.failed[f"{contender.label}{where}"] = str(error)
            return False
        return True


def _other(contender: Contender) -> str:
    return f"{contender.label}, beside"
