"""What `allfocus eval` compares: the input itself, classical baselines, and models.

Each takes a Pair's blurry picture and gives what it can: a picture, a map of radii, a map of focus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import allfocus
from allfocus.benchmarks.quality_schema import Kind
from allfocus.runtime.artefacts import packaged_onnx
from allfocus.runtime.catalogue import MODELS, entry
from allfocus.runtime.deblurrer import Deblurrer, Result
from allfocus.runtime.ensemble import Ensemble
from allfocus.runtime.errors import UsageError
from allfocus.runtime.model import Model
from allfocus.runtime.reach import check as check_reach
from allfocus.runtime.signature import Signature
from allfocus.runtime.skip import AUTO, Choice
from allfocus.runtime.spec import Wanted
from allfocus.runtime.ways import graph_of, precision_of
from allfocus.train.bands import Real
from allfocus.train.evaluation_pair import Pair

ALL = "all"  # of the models, where a command takes several

Given = NDArray[Any]  # [H, W, 3] RGB, uint8 or float32 in [0, 1]
Guide = Callable[[Pair, Given], NDArray[np.float32]]  # a picture's blur radii [H, W], in pixels

NO_VIEWS = (
    "takes the two views of a dual-pixel sensor, which these data do not have; take data that do "
    "(inputL and inputR beside inputC, DPDD as published, or the built-in set), or a model of "
    "single pictures"
)
_VIEWS = ("left", "right")
_TAKEN = (("image",), _VIEWS)  # what a Pair has for a model


@dataclass(frozen=True, kw_only=True)
class Output:
    """What came out for one picture; None where the candidate does not give it."""

    image: Given | None = None  # [H, W, 3], of the type that went in
    defocus: NDArray[np.float32] | None = None  # [H, W], pixels of blur radius
    focus: NDArray[np.float32] | None = None  # [H, W], 1 in focus


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Something that is judged: `run(pair, given)`, `given` being the pair's blurry picture."""

    name: str
    kind: Kind
    run: Callable[[Pair, Given], Output]
    backend: str | None = None
    precision: str | None = None
    weights: str | None = None
    weights_sha256: str | None = None
    max_radius: float = 0.0
    untrained: bool = False
    estimates: bool = False  # a baseline can take its maps of blur radii
    needs_views: bool = False  # it looks at the pair's dual-pixel views
    takes_map: bool = False  # it can deblur by a map from elsewhere


def real(image: Given) -> Real:
    """uint8 or float32 -> float32, 1 being white."""
    return image if image.dtype == np.float32 else image.astype(np.float32) / np.float32(255)


def the_input() -> Candidate:
    """The blurry picture as it is."""
    return Candidate(name="input", kind="input", run=lambda _, given: Output(image=given))


def names(text: str, every: Sequence[str]) -> list[str]:
    """The models of a `--model`, each once; all stands for `every`.

    Raises UsageError for none, and UnknownModelError for a name that is none.
    """
    said = [name.strip() for name in text.split(",") if name.strip()]
    given = [name for each in said for name in (every if each == ALL else (each,))]
    if not given:
        raise UsageError(f"--model {text!r}: expected names of models, or {ALL}")
    for name in given:
        if not Path(name).suffix:
            entry(name)
    return list(dict.fromkeys(given))


def reaches(models: Sequence[str], reach: float | None) -> dict[str, float | None]:
    """The reach of each: None of those that make no map of radii, as they can have none.

    Raises UsageError for what is no reach, and where none of them can have it.
    """
    radius = check_reach(reach)
    able = [
        name
        for name in models
        if Path(name).suffix or "defocus" in entry(name).signature("whole").outputs
    ]
    if radius is not None and not able:
        raise UsageError(
            f"--reach {radius:g}: none of {', '.join(models)} makes a map of blur radii; leave it "
            "out, or take didanet-lite"
        )
    return {name: radius if name in able else None for name in models}


def packaged() -> tuple[str, ...]:
    """The models of which the package has trained weights, and that take what a Pair has."""
    return tuple(
        name
        for name, known in MODELS.items()
        if known.signature("whole").inputs in _TAKEN and packaged_onnx(name).is_file()
    )


def deblurring() -> tuple[str, ...]:
    """Those of `packaged` that give a picture."""
    return tuple(name for name in packaged() if MODELS[name].signature("whole").deblurs)


def needs_views(model: str, backend: str, precision: Wanted | None) -> bool:
    """Whether the model of this name, or artefact of this path, takes dual-pixel views."""
    return tuple(_signature(model, *reproducible(model, backend, precision)).inputs) == _VIEWS


def labels(models: Sequence[str]) -> dict[str, str]:
    """What each model of a `--model` is called in a table: an artefact by its file's name or, where
    another one has that too, by the path that was given.
    """
    names_of = {model: Path(model).name for model in models}
    seen = Counter(names_of.values())
    return {model: name if seen[name] == 1 else model for model, name in names_of.items()}


@contextmanager
def open_model(
    model: str,
    backend: str,
    threads: int,
    label: str | None = None,
    *,
    skip: Choice = AUTO,
    ensemble: Ensemble = 1,
    reach: float | None = None,
    precision: Wanted | None = None,
    guide: Guide | None = None,
    views: bool = False,
) -> Iterator[Candidate]:
    """The model of this name, or artefact of this path, loaded; closed at the end.

    It is called `label` or, without one, by its name or its file's. `skip`, `ensemble` and `reach`
    are those of `allfocus.load`; a model that makes no picture knows none of them, nor a `guide`,
    which gives the map of radii that the model deblurs by in place of its own. `precision`
    None: see `reproducible`. Raises UsageError for one that takes something else than one picture
    or, with `views`, than the two views of a dual-pixel sensor, and what loading raises.
    """
    backend, exact = reproducible(model, backend, precision)
    signature = _signature(model, backend, exact)
    name = label or Path(model).name
    if tuple(signature.inputs) not in _TAKEN[: 1 + views]:
        known = "single pictures or of dual-pixel views" if views else "single pictures"
        raise UsageError(
            f"{model} takes {', '.join(signature.inputs)}: expected a model of {known}, which is "
            "what can be given it here"
        )
    if signature.deblurs:
        with allfocus.load(
            model,
            backend=backend,
            precision=exact,
            color="rgb",
            threads=threads,
            skip=skip,
            ensemble=ensemble,
            reach=reach,
        ) as deblur:

            def run(pair: Pair, given: Given) -> Output:
                return _result(deblur(given, defocus=None if guide is None else guide(pair, given)))

            yield replace(_candidate(name, deblur, run), takes_map=_takes_map(deblur))
    else:
        with allfocus.load_model(
            model, backend=backend, precision=exact, color="rgb", threads=threads
        ) as loaded:
            both = tuple(signature.inputs) == _VIEWS
            look = partial(_look_at_views, loaded) if both else partial(_look, loaded)
            yield replace(_candidate(name, loaded, look), needs_views=both)


def reproducible(model: str, backend: str, precision: Wanted | None) -> tuple[str, Wanted]:
    """Backend and precision with which figures of quality are the same again, and elsewhere.

    Where nothing is asked for, models are computed in fp32, and a file as it is, in ONNX Runtime:
    what is the fastest on a machine is another thing on the next. An engine runs where it can.
    """
    if Path(model).suffix == ".engine":
        return backend, precision or "auto"
    if precision is None:
        precision = precision_of(Path(model)) if Path(model).suffix == ".onnx" else "fp32"
        backend = "onnxruntime" if backend == "auto" else backend
    return backend, precision


def _signature(model: str, backend: str, precision: Wanted) -> Signature:
    if model in MODELS:
        return MODELS[model].signature("whole")
    if Path(model).suffix == ".onnx":  # without opening it
        return graph_of(Path(model)).signature
    with allfocus.load_model(model, backend=backend, precision=precision) as loaded:
        return loaded.graph.signature


@contextmanager
def open_classical(
    name: str, model: str | None, backend: str, threads: int, precision: Wanted | None = None
) -> Iterator[Candidate]:
    """The baseline `name` under the true map or, where `model` is given, under that of the model of
    this name, or artefact of this path; `precision` as for `open_model`.
    """
    from allfocus.benchmarks.baselines import open_baseline

    exact: Wanted = "auto"
    if model is not None:
        backend, exact = reproducible(model, backend, precision)
    with open_baseline(
        name, model=model, backend=backend, precision=exact, color="rgb", threads=threads
    ) as baseline:

        def run(pair: Pair, given: Given) -> Output:
            radius = pair.radius if model is None else None
            return Output(image=baseline(given, radius).image)

        under = "true map" if model is None else f"map of {Path(model).name}"
        yield Candidate(name=f"{name}, {under}", kind="classical", run=run)


def _candidate(
    name: str, loaded: Deblurrer | Model, run: Callable[[Pair, Given], Output]
) -> Candidate:
    spec = loaded.spec
    maps = isinstance(loaded, Deblurrer) and "defocus" in loaded.graph.signature.outputs
    return Candidate(
        name=name,
        kind="model",
        run=run,
        backend=loaded.backend,
        precision=loaded.precision,
        weights=spec.weights,
        weights_sha256=spec.weights_sha256,
        max_radius=spec.max_radius,
        untrained=spec.untrained,
        estimates=maps and spec.max_radius > 0,
    )


def _takes_map(deblur: Deblurrer) -> bool:
    try:
        deblur.check_guided()
    except UsageError:
        return False
    return True


def _look(model: Model, _: Pair, given: Given) -> Output:
    return _named(model(image=given))


def _look_at_views(model: Model, pair: Pair, given: Given) -> Output:
    """What a model of dual-pixel views gives, in the type of `given`."""
    if pair.left is None or pair.right is None:
        raise UsageError(f"{model.spec.name} {NO_VIEWS}")
    sides = (real(each) if given.dtype == np.float32 else each for each in (pair.left, pair.right))
    return _named(model(**dict(zip(_VIEWS, sides, strict=True))))


def _result(result: Result) -> Output:
    return Output(image=result.image, defocus=result.defocus, focus=result.focus)


def _named(outputs: dict[str, Any]) -> Output:
    return Output(
        image=outputs.get("sharp"), defocus=outputs.get("defocus"), focus=outputs.get("focus")
    )
