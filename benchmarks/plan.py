"""What `bench latency` shall measure: the options, and the contenders they come to."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from allfocus.benchmarks.contenders import Contender, Recipe, opened
from allfocus.export.weights import packaged_weights
from allfocus.runtime.catalogue import BASELINES, entry
from allfocus.runtime.cpus import available_cpus
from allfocus.runtime.errors import ArtefactError, BackendError, UsageError, nearest
from allfocus.runtime.probe import BACKENDS
from allfocus.runtime.spec import Precision, Size

Field = dict[Recipe, Contender]  # all that is compared, open


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure and for how long."""

    model: str
    size: Size
    backend: str = "auto"  # one of the runtime's, or "all"
    artefact: Path | None = None  # instead of the packaged or cached one
    weights: str | None = None  # export these first: a file, or "random:SEED"
    precision: Precision | None = None  # of that export
    baseline: Literal["eager", "none"] = "eager"
    classical: tuple[str, ...] = ()  # names of BASELINES, under the model's map
    threads: int = 0  # 0: all that this process may use
    warmup: int = 1
    repeats: int | None = None  # None: as many as fit in `seconds`
    seconds: float = 60.0

    def __post_init__(self) -> None:
        entry(self.model)
        if self.artefact is not None and self.exports:
            raise UsageError("--artefact is measured as it is: leave out --weights and --precision")
        unknown = next((name for name in self.classical if name not in BASELINES), None)
        if unknown is not None:
            raise UsageError(f"unknown baseline {unknown!r}: {nearest(unknown, BASELINES)}")

    @property
    def exports(self) -> bool:
        """Whether something is exported before it is measured."""
        return self.weights is not None or self.precision is not None

    @property
    def cpu_threads(self) -> int:
        """CPU threads that each contender gets."""
        return self.threads or available_cpus()


@contextmanager
def open_source(plan: Plan) -> Iterator[str]:
    """What `allfocus.load` shall open: the artefact, a fresh export, or the model by its name."""
    if plan.artefact is not None:
        yield str(plan.artefact)
    elif not plan.exports:
        yield plan.model
    else:
        with tempfile.TemporaryDirectory(prefix="allfocus-bench-") as folder:
            yield _export(plan, Path(folder))


def open_runtimes(plan: Plan, source: str, stack: ExitStack) -> tuple[Field, dict[str, str]]:
    """The backends asked for, opened on `source`; and why those that were left out were."""
    field: Field = {}
    skipped: dict[str, str] = {}
    every = plan.backend == "all"
    for backend in BACKENDS if every else (plan.backend,):
        recipe = Recipe(kind="runtime", model=source, backend=backend, threads=plan.cpu_threads)
        try:
            contender = stack.enter_context(opened(recipe))
        except (ArtefactError, BackendError, UsageError) as error:
            if not every:
                raise
            skipped[backend] = str(error)
            continue
        field[recipe] = contender
        skipped |= contender.passed_over
    if not field:
        causes = "; ".join(f"{name}: {why}" for name, why in skipped.items())
        raise BackendError(f"no engine can run {source} here. {causes}")
    return field, skipped


def open_baselines(plan: Plan, field: Iterable[Contender], stack: ExitStack) -> Field:
    """Eager PyTorch on each kind of device that `field` uses and that this PyTorch can use."""
    import torch

    runtimes = list(field)
    model = runtimes[0].model
    devices = []
    if any(not contender.on_gpu for contender in runtimes):
        devices.append("cpu")
    if any(contender.on_gpu for contender in runtimes) and torch.cuda.is_available():
        devices.append("cuda")
    recipes = [
        Recipe(
            kind="eager",
            model=model,
            backend=device,
            threads=plan.cpu_threads,
            weights=_weights(plan, model),
        )
        for device in devices
    ]
    return {recipe: stack.enter_context(opened(recipe)) for recipe in recipes}


def open_classical(plan: Plan, source: str, stack: ExitStack) -> Field:
    """The classical baselines, each under the map that `source` gives where "auto" runs it."""
    backend = "auto" if plan.backend == "all" else plan.backend
    recipes = [
        Recipe(
            kind="classical",
            model=source,
            backend=backend,
            threads=plan.cpu_threads,
            baseline=name,
        )
        for name in plan.classical
    ]
    return {recipe: stack.enter_context(opened(recipe)) for recipe in recipes}


def _export(plan: Plan, folder: Path) -> str:
    """Make the ONNX file that `plan` asks for in `folder`; its path."""
    from allfocus.export.plan import Options, make_plan
    from allfocus.export.to_trt import export

    options = Options(
        model=plan.model,
        weights=plan.weights,
        precision=plan.precision or "fp32",
        size=str(plan.size),
        onnx_only=True,
    )
    wanted, _ = make_plan(options)
    path: str = export(wanted, out=folder)["onnx"]
    return path


def _weights(plan: Plan, model: str) -> str:
    """Those to be exported, else the package's, else random ones: they take as long."""
    packaged = packaged_weights(model)
    return plan.weights or (str(packaged) if packaged.is_file() else "random:0")
