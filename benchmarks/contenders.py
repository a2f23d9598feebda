"""What `bench latency` compares: a model in one of the runtime's backends, PyTorch, and classical
baselines under that model's map.

A Recipe is plain data, so that another process can open the same contender to measure its memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from allfocus.benchmarks.calls import Call, Frame
from allfocus.benchmarks.schema import Device, Role
from allfocus.runtime.ensemble import Ensemble
from allfocus.runtime.probe import ON_CPU
from allfocus.runtime.skip import OFF, Choice
from allfocus.runtime.spec import Precision, Spec, Wanted

if TYPE_CHECKING:
    from allfocus.benchmarks.baselines import Baseline
    from allfocus.benchmarks.pytorch import Way
    from allfocus.runtime.deblurrer import Deblurrer, Result

_LABELS = {
    "cpu": "ONNX Runtime, CPU",
    "openvino": "OpenVINO, CPU",
    "cuda": "ONNX Runtime, CUDA",
    "tensorrt": "TensorRT",
    "tensorrt-rtx": "TensorRT for RTX",
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to open a contender.

    `runtime`: `model` is a name or an artefact's path; `backend`, `precision`, `skip`,
    `ensemble` and `reach` are as `allfocus.load` takes them.
    `pytorch`: `model` is a name, `backend` a torch device, "cpu" or "cuda", `way` one of
    `pytorch.KINDS`, `weights` as `allfocus export` takes them.
    `classical`: `model`, `backend`, `precision` and `skip` as for `runtime`, under whose map
    `baseline` works.
    """

    kind: Literal["runtime", "pytorch", "classical"]
    model: str
    backend: str
    threads: int
    precision: Wanted = "auto"
    skip: Choice = OFF
    ensemble: Ensemble = 1
    reach: float | None = None
    way: Way = "eager"
    weights: str = ""
    baseline: str = ""

    @property
    def label(self) -> str:
        """What a report calls it before it is open."""
        if self.kind == "pytorch":
            from allfocus.benchmarks.pytorch import label

            return label(self.way, self.backend)
        if self.kind == "classical":
            return f"{self.baseline}, CPU"
        precision = "" if self.precision == "auto" else f", {self.precision}"
        return f"{_LABELS.get(self.backend, self.backend)}{precision}"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Something that deblurs frames and can be timed."""

    label: str
    role: Role
    precision: Precision
    device: Device
    spec: Spec
    passed_over: dict[str, str]  # backends that "auto" would have preferred -> why not
    run: Callable[[Frame], tuple[Frame, Call]]


@contextmanager
def opened(recipe: Recipe) -> Iterator[Contender]:
    """The contender of `recipe`, loaded; closed at the end. Raises what loading raises."""
    if recipe.kind == "pytorch":
        yield _pytorch(recipe)
    elif recipe.kind == "classical":
        with _open_classical(recipe) as baseline:
            assert baseline.estimator is not None
            yield _loaded(baseline, baseline.estimator, recipe.label, "classical")
    else:
        from allfocus.runtime.load import load

        with load(
            recipe.model,
            backend=recipe.backend,
            precision=recipe.precision,
            threads=recipe.threads,
            skip=recipe.skip,
            ensemble=recipe.ensemble,
            reach=recipe.reach,
        ) as deblur:
            label = f"{_LABELS[deblur.backend]}, {deblur.precision}"
            yield _loaded(deblur, deblur, label, "runtime")


def _open_classical(recipe: Recipe) -> Baseline:
    from allfocus.benchmarks.baselines import open_baseline

    return open_baseline(
        recipe.baseline,
        model=recipe.model,
        backend=recipe.backend,
        precision=recipe.precision,
        threads=recipe.threads,
        skip=recipe.skip,
    )


def _loaded(
    call: Callable[[Frame], Result], deblur: Deblurrer, label: str, role: Role
) -> Contender:
    """What makes a Result of a frame by means of a loaded model."""

    def run(frame: Frame) -> tuple[Frame, Call]:
        start = time.perf_counter()
        result = call(frame)
        total = 1e3 * (time.perf_counter() - start)
        return result.image, Call(**result.timings, total=total)

    return Contender(
        label=label,
        role=role,
        precision=deblur.precision,
        device="cpu" if deblur.backend in ON_CPU else "cuda",
        spec=deblur.spec,
        passed_over=dict(deblur.reasons),
        run=run,
    )


def _pytorch(recipe: Recipe) -> Contender:
    from allfocus.benchmarks.pytorch import KINDS, Runner

    device: Device = "cuda" if recipe.backend == "cuda" else "cpu"
    runner = Runner(recipe.model, recipe.weights, recipe.way, device, recipe.threads)
    return Contender(
        label=recipe.label,
        role="baseline" if recipe.way == "eager" else "pytorch",
        precision=KINDS[recipe.way].precision,
        device=device,
        spec=runner.spec,
        passed_over={},
        run=runner,
    )
