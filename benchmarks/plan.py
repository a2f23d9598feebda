"""What `bench latency` shall measure: the options, and the contenders they come to."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from allfocus.benchmarks.contenders import Contender, Recipe, opened
from allfocus.benchmarks.schema import Device
from allfocus.runtime.artefacts import packaged_weights
from allfocus.runtime.catalogue import BASELINES, entry
from allfocus.runtime.cpus import available_cpus
from allfocus.runtime.errors import ArtefactError, BackendError, UsageError, nearest
from allfocus.runtime.probe import BACKENDS
from allfocus.runtime.skip import OFF, Choice
from allfocus.runtime.spec import Precision, Size, Wanted

Field = dict[Recipe, Contender]  # all that is compared, open
Skipped = dict[str, str]  # what was left out -> why

# What "all" asks a backend for; the others compute as their engine was made.
_PRECISIONS: dict[str, tuple[Wanted, ...]] = {
    "openvino": ("fp32", "bf16", "int8"),
    "cpu": ("fp32", "int8"),
}
_AS_IT_IS: tuple[Wanted, ...] = ("auto",)


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
    skip: Choice = OFF  # of the runtime's contenders, and what gives the classical ones their map
    beside: Size | None = None  # another size; None: BESIDE on a GPU, none on a CPU
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
    def every(self) -> bool:
        """Whether all that runs here is measured, and what does not is named."""
        return self.backend == "all"

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


def open_runtimes(plan: Plan, source: str, stack: ExitStack) -> tuple[Field, Skipped]:
    """The backends asked for, opened on `source`; and why those that were left out were."""
    field, skipped = _opened(plan, _runtimes(plan, source), stack)
    if not field:
        causes = "; ".join(f"{name}: {why}" for name, why in skipped.items())
        raise BackendError(f"no engine can run {source} here. {causes}")
    for contender in field.values():
        skipped |= contender.passed_over
    return field, skipped


def _runtimes(plan: Plan, source: str) -> list[Recipe]:
    asked: list[tuple[str, Wanted]] = [(plan.backend, "auto")]
    if plan.every:
        asked = [(each, p) for each in BACKENDS for p in _PRECISIONS.get(each, _AS_IT_IS)]
    return [
        Recipe(
            kind="runtime",
            model=source,
            backend=backend,
            precision=precision,
            skip=plan.skip,
            threads=plan.cpu_threads,
        )
        for backend, precision in asked
    ]


def open_pytorch(plan: Plan, field: Iterable[Contender], stack: ExitStack) -> tuple[Field, Skipped]:
    """Eager PyTorch on each kind of device that `field` uses; for "all", every way on both kinds,
    and why those that were left out were.
    """
    from allfocus.benchmarks.pytorch import KINDS, missing

    runtimes = list(field)
    model = runtimes[0].spec.name
    used = {contender.device for contender in runtimes}
    devices: tuple[Device, ...] = ("cpu", "cuda")
    recipes, skipped = [], {}
    for device in (d for d in devices if plan.every or d in used):
        for way in (w for w in KINDS if plan.every or w == "eager"):
            if device not in KINDS[way].devices:
                continue
            recipe = Recipe(
                kind="pytorch",
                model=model,
                backend=device,
                way=way,
                threads=plan.cpu_threads,
                weights=_weights(plan, model),
            )
            why = missing(device)
            if why:
                skipped[recipe.label] = why
            else:
                recipes.append(recipe)
    found, failed = _opened(plan, recipes, stack)
    return found, skipped | failed


def open_classical(plan: Plan, source: str, stack: ExitStack) -> Field:
    """The classical baselines, each under the map that `source` gives where "auto" runs it."""
    backend = "auto" if plan.every else plan.backend
    recipes = [
        Recipe(
            kind="classical",
            model=source,
            backend=backend,
            skip=plan.skip,
            threads=plan.cpu_threads,
            baseline=name,
        )
        for name in plan.classical
    ]
    return {recipe: stack.enter_context(opened(recipe)) for recipe in recipes}


def _opened(plan: Plan, recipes: Iterable[Recipe], stack: ExitStack) -> tuple[Field, Skipped]:
    """Those of `recipes` that can be opened; where not all are asked for, every one must."""
    field: Field = {}
    skipped: Skipped = {}
    for recipe in recipes:
        try:
            field[recipe] = stack.enter_context(opened(recipe))
        except (ArtefactError, BackendError, UsageError) as error:
            if not plan.every:
                raise
            skipped[recipe.label] = str(error)
    return field, skipped


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
