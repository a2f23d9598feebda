"""`allfocus doctor`: what is here, which backends work, why the others do not, what to install."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import allfocus
from allfocus.kernels.plugin_library import find_plugins
from allfocus.runtime import abilities
from allfocus.runtime.artefacts import find_onnx, packaged_onnx
from allfocus.runtime.cachedir import cache_dir
from allfocus.runtime.catalogue import MODELS, entry
from allfocus.runtime.command import DONE, FAILED
from allfocus.runtime.cpus import available_cpus
from allfocus.runtime.errors import AllfocusError, ArtefactError, BackendError
from allfocus.runtime.fastest import Remembered, remembered
from allfocus.runtime.gpu import Gpus, find_gpus
from allfocus.runtime.host import describe_cpu, installed_packages
from allfocus.runtime.load import load
from allfocus.runtime.manifest import Manifest
from allfocus.runtime.probe import Candidate, probe


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One engine in the cache, by its manifest; `problem` where that cannot be read."""

    file: str  # below the cache folder
    about: str
    problem: str


@dataclass(frozen=True, kw_only=True)
class Cache:
    """The folder that `allfocus export` fills."""

    folder: str
    bytes: int
    engines: tuple[Engine, ...]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came of loading a model as a program would: a backend, or why there was none."""

    model: str
    backend: str
    precision: str
    problem: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that `allfocus doctor` tells."""

    allfocus: str
    python: str
    os: str
    cpu: str
    cpus: int  # that this process may use
    features: tuple[str, ...]  # of the CPU; none where the OS does not tell
    abilities: str  # those of them that make a precision fast, for people
    lacks: tuple[str, ...]  # what follows from those that it has not
    gpus: Gpus
    packages: dict[str, str]
    backends: tuple[Candidate, ...]
    plugins: str  # the library of TensorRT plugins; empty where there is none
    cache: Cache
    models: dict[str, str]  # where each comes from
    fastest: tuple[Remembered, ...]  # what was measured on the CPU
    trial: Trial

    @property
    def healthy(self) -> bool:
        """A backend works and the model loads."""
        return any(b.usable for b in self.backends) and not self.trial.problem


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `allfocus doctor`."""
    parser.add_argument("--model", default="didanet-lite", help="the model to load (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the report; DONE where a backend works and the model loads, else FAILED."""
    entry(args.model)
    report = examine(args.model)
    if args.json:
        print(json.dumps({**asdict(report), "healthy": report.healthy}))
    else:
        print("\n".join(_lines(report)))
    return DONE if report.healthy else FAILED


def examine(model: str) -> Report:
    """Look at everything, and load `model`."""
    cpu, features = describe_cpu()
    return Report(
        allfocus=allfocus.__version__,
        python=platform.python_version(),
        os=platform.platform(),
        cpu=cpu,
        cpus=available_cpus(),
        features=features,
        abilities=abilities.described(),
        lacks=abilities.lacking(),
        gpus=find_gpus(),
        packages=installed_packages(),
        backends=tuple(probe()),
        plugins=_plugins(),
        cache=_cache(cache_dir()),
        models={name: _origin(name) for name in MODELS},
        trial=_try(model),  # before what is remembered is read: it may be the first
        fastest=tuple(remembered()),
    )


def _plugins() -> str:
    try:
        return str(find_plugins() or "")
    except BackendError as error:  # the variable names a file that is not there
        return str(error)


def _cache(folder: Path) -> Cache:
    files = [path for path in folder.rglob("*") if path.is_file()]
    engines = sorted(path for path in files if path.suffix == ".engine")
    return Cache(
        folder=str(folder),
        bytes=sum(path.stat().st_size for path in files),
        engines=tuple(_engine(path, folder) for path in engines),
    )


def _engine(path: Path, folder: Path) -> Engine:
    file, about, problem = str(path.relative_to(folder)), "", ""
    try:
        made = Manifest.from_json(path.with_suffix(".json").read_text(encoding="utf-8"))
        about = (
            f"{made.flavour} {made.flavour_version}, {made.graph.precision}, {made.graph.face}, "
            f"{made.graph.shapes or 'any size'}, {', '.join(made.targets)}"
        )
    except (ArtefactError, OSError, UnicodeDecodeError) as error:
        problem = f"its manifest cannot be read ({error}); `allfocus export --force` makes it anew"
    return Engine(file=file, about=about, problem=problem)


def _origin(name: str) -> str:
    try:
        found = find_onnx(name)[0]
    except ArtefactError:
        return f"no weights here; `allfocus export --model {name} --weights FILE` makes it of yours"
    return "in the package" if found == packaged_onnx(name) else f"in the cache: {found.name}"


def _try(model: str) -> Trial:
    try:
        with load(model) as deblur:
            backend, precision = deblur.backend, deblur.precision
            return Trial(model=model, backend=backend, precision=precision, problem="")
    except AllfocusError as error:
        return Trial(model=model, backend="", precision="", problem=str(error))


def _lines(report: Report) -> Iterator[str]:
    """The report for people."""
    features = " ".join(report.features) or "features unknown"
    yield f"allfocus  {report.allfocus}, Python {report.python}, {report.os}"
    yield f"CPU       {report.cpu}, {report.cpus} usable; {features}"
    yield f"abilities {'; '.join((report.abilities, *report.lacks))}"
    yield from _gpu_lines(report.gpus)
    yield "packages  " + ", ".join(f"{n} {v}" for n, v in report.packages.items())
    yield "backends"
    for backend in report.backends:
        version = backend.version or "not installed"
        yield f"  {backend.name:13} {version:13}  {backend.reason or 'works'}"
    yield f"plugins   {report.plugins or 'not built; some TensorRT engines need them'}"
    yield f"cache     {report.cache.folder}, {report.cache.bytes / 1e6:.1f} MB"
    for engine in report.cache.engines:
        yield f"  {engine.file}: {engine.about or engine.problem}"
    yield "models"
    for name, origin in report.models.items():
        yield f"  {name:17} {origin}"
    yield from _fastest_lines(report.fastest)
    trial = report.trial
    loaded = f"loads on {trial.backend} in {trial.precision}"
    outcome = f"does not load: {trial.problem}" if trial.problem else loaded
    yield f"{trial.model} {outcome}"


def _fastest_lines(found: Sequence[Remembered]) -> Iterator[str]:
    if found:
        yield "fastest on the CPU, as measured here"
    for each in found:
        about = "" if each.current else " (of before: measured again when it is loaded)"
        yield f"  {each.model:17} {each}, for a frame of {each.frame}{about}"


def _gpu_lines(gpus: Gpus) -> Iterator[str]:
    if gpus.reason:
        yield f"GPU       none: {gpus.reason}"
    for gpu in gpus.devices:
        yield (
            f"GPU {gpu.index}     {gpu.name}, {gpu.target}, {gpu.memory_bytes / 2**30:.0f} GiB, "
            f"driver {gpus.driver or 'of unknown version'}, CUDA {gpus.cuda}"
        )
