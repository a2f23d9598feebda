"""Which way to run a model is the fastest on this CPU: measured once, and remembered.

Not even the order is the same everywhere: 8 bits are several times faster than float32 where the
CPU has instructions for them, and slower where it has none. What was measured stands in a JSON
file below the cache's folder `fastest`, with all that it depends on; where any of that has changed,
or the file is damaged, it is measured again.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

import allfocus
from allfocus.runtime.backend import Backend, Options
from allfocus.runtime.cachedir import cache_dir
from allfocus.runtime.cpus import available_cpus
from allfocus.runtime.errors import AllfocusError, ArtefactError, BackendError
from allfocus.runtime.files import publish
from allfocus.runtime.host import describe_cpu, installed_packages
from allfocus.runtime.lock import locked
from allfocus.runtime.onnx_backend import OnnxBackend
from allfocus.runtime.spec import Size
from allfocus.runtime.ways import Way

log = logging.getLogger("allfocus")

_SCHEMA = "allfocus.fastest/1"
_FOLDER = "fastest"  # files are two deep in it: what lies one deep in the cache are manifests
_FRAME = Size(128, 96)  # pixels: some ms for most models; larger frames rank alike
_RUNS, _SECONDS = 5, 0.3  # the best of so many, or of those that begin in this time
_MARGIN = 1.1  # a less exact way is taken where it is faster by more than this
_EACH_TIME = (
    "%s cannot be written to, so what is fastest is measured at every start (set ALLFOCUS_CACHE to "
    "another folder): %s"
)
_EXACT = ("fp32", "fp16", "bf16", "int8", "fp8")  # most exact first

Open = Callable[[Way], Backend]


@dataclass(frozen=True)
class Measured:
    """One way: milliseconds for a frame, or None and the problem with it."""

    label: str
    ms: float | None
    problem: str


@dataclass(frozen=True)
class Remembered:
    """What was measured for a model, the quickest first."""

    model: str
    frame: str
    ways: tuple[Measured, ...]
    current: bool  # whether this machine, with what is installed now, is the one it was measured on

    def __str__(self) -> str:
        return ", ".join(f"{each.label} {_time(each)}" for each in self.ways)


class Ranking:
    """Ways in the order in which they are to be tried."""

    def __init__(self, ways: Sequence[Way], start: Open) -> None:
        self.ways = list(ways)
        self._start = start
        self._measured: dict[str, Measured] = {}
        self._frame = ""
        self._loaded: dict[Way, Backend] = {}

    def take(self, way: Way) -> Backend:
        """A way loaded, which is the caller's then; raises ArtefactError or BackendError."""
        return self._loaded.pop(way, None) or self._start(way)

    def against(self, taken: Way) -> list[tuple[str, str]]:
        """Why each slower way than `taken` was not taken, with its label."""
        if taken.label not in self._measured:
            return []
        best = self._measured[taken.label]
        place = [way.label for way in self.ways].index(taken.label)
        after = [*(way.label for way in self.ways[place + 1 :]), *self._failed()]
        return [(label, self._reason(self._measured[label], best)) for label in after]

    def _failed(self) -> list[str]:
        """Those that could not be measured; they are tried no more."""
        tried = {way.label for way in self.ways}
        return [label for label in self._measured if label not in tried]

    def _reason(self, other: Measured, best: Measured) -> str:
        if other.ms is None or best.ms is None:
            return other.problem
        exact = " and more exact" if other.ms < best.ms else ""
        taken = f"{best.label} {best.ms:.1f} ms{exact}"
        return f"{other.ms:.1f} ms for a frame of {self._frame}, {taken}"

    def settle(self, measured: Sequence[Measured], frame: str, loaded: dict[Way, Backend]) -> None:
        """Take over what was measured: the best first, those that failed out."""
        self._measured = {each.label: each for each in measured}
        self._frame, self._loaded = frame, loaded
        self.ways = ordered(self.ways, self._measured)
        for way in [way for way in loaded if way != self.ways[0]]:
            loaded.pop(way).close()

    def close(self) -> None:
        """Close what was loaded and not taken."""
        for backend in self._loaded.values():
            backend.close()


@contextmanager
def ranked(model: str, ways: Sequence[Way], start: Open, options: Options) -> Iterator[Ranking]:
    """The ways, fastest first where there are several on the CPU; `start` loads one.

    One alone, and engines on a GPU, which come newest first, are not measured. `model` is what it
    is remembered under.
    """
    ranking = Ranking(ways, start)
    if len(ways) > 1 and all(way.precision != "auto" for way in ways):
        _rank(ranking, model, options, start)
    try:
        yield ranking
    finally:
        ranking.close()


def remembered() -> list[Remembered]:
    """All that is remembered, by model; files that cannot be read are left out."""
    machine, found = _machine(), []
    for path in sorted((cache_dir() / _FOLDER).glob("*/*.json")):
        note = _read(path)
        if note is not None:
            current = all(note.key.get(name) == value for name, value in machine.items())
            ways = sorted(note.measured, key=lambda each: (each.ms is None, each.ms or 0.0))
            found.append(Remembered(str(note.key["model"]), note.frame, tuple(ways), current))
    return sorted(found, key=lambda each: each.model)


def ordered(ways: Sequence[Way], measured: dict[str, Measured]) -> list[Way]:
    """Fastest first, but a less exact way must be faster by `_MARGIN`; those that failed: out."""
    times = {way: measured[way.label].ms for way in ways}
    timed = {way: ms for way, ms in times.items() if ms is not None}
    if not timed:
        return list(ways)  # none could be loaded: each is tried again, and tells why
    limit = min(timed.values()) * _MARGIN
    near = [way for way, ms in timed.items() if ms <= limit]
    first = min(near, key=lambda way: (_EXACT.index(way.precision), timed[way]))
    rest = sorted((way for way in timed if way != first), key=timed.__getitem__)
    return [first, *rest]


@dataclass(frozen=True)
class _Note:
    """What a file holds: what was measured, on what frame, and all that it depends on."""

    key: dict[str, Any]
    frame: str
    measured: tuple[Measured, ...]


def _rank(ranking: Ranking, model: str, options: Options, start: Open) -> None:
    key, path = _key(model, ranking.ways, options), _place(model, ranking.ways, options)
    note = _recalled(path, key)
    loaded: dict[Way, Backend] = {}
    if note is None:
        with _alone(path) as can_write:
            note = _recalled(path, key)  # another may have measured while this one waited
            if note is None:
                note, loaded, final = _measured(ranking.ways, key, start)
                if can_write and final and any(each.ms is not None for each in note.measured):
                    _remember(path, note)
    ranking.settle(note.measured, note.frame, loaded)


def _measured(
    ways: Sequence[Way], key: dict[str, Any], start: Open
) -> tuple[_Note, dict[Way, Backend], bool]:
    """Load and measure all ways; also the loaded ones, and whether it would be so again.

    A file that an engine computes wrongly stays one; what failed otherwise may have been short of
    memory, and is to be tried again.
    """
    loaded: dict[Way, Backend] = {}
    problems: dict[Way, Exception] = {}
    for way in ways:
        try:
            loaded[way] = start(way)
        except (ArtefactError, BackendError) as error:
            # That a net is too coarse in bf16 is found out here, as it should be.
            level = logging.INFO if way.precision == "bf16" else logging.WARNING
            log.log(level, "passed over: %s: %s", way.label, error)
            problems[way] = error
    times = _times(loaded, problems)
    told = {way: str(error) for way, error in problems.items()}
    measured = tuple(Measured(way.label, times.get(way), told.get(way, "")) for way in ways)
    frame = next((str(_frame(each)) for each in loaded.values()), "")
    final = all(isinstance(error, ArtefactError) for error in problems.values())
    return _Note(key, frame, measured), loaded, final


def _times(loaded: dict[Way, Backend], problems: dict[Way, Exception]) -> dict[Way, float]:
    """The best milliseconds of each; in turns, so that another load on the machine meets all."""
    best: dict[Way, float] = {}
    end = None
    for turn in range(1 + _RUNS):  # the first run of each is not like the others
        for way, backend in list(loaded.items()):
            try:
                ms = _once(backend)
            except (AllfocusError, MemoryError) as error:
                problems[way] = error
                loaded.pop(way).close()
                best.pop(way, None)
                continue
            if turn:
                best[way] = min(ms, best.get(way, ms))
        end = perf_counter() + _SECONDS * len(loaded) if end is None else end
        if turn and perf_counter() > end:
            break
    return best


def _once(backend: Backend) -> float:
    assert isinstance(backend, OnnxBackend)
    given = backend.blank(_frame(backend))
    before = perf_counter()
    backend.run(given)
    return 1e3 * (perf_counter() - before)


def _frame(backend: Backend) -> Size:
    """The frame to measure on: a small one, or what the graph was exported for."""
    shapes = backend.graph.shapes
    return shapes.opt if shapes else _FRAME.padded(backend.spec.multiple)


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """One process measures at a time; False where nothing can be written."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path.with_suffix(".lock"), _wait))
        except AllfocusError as error:
            log.warning(_EACH_TIME, path.parent.parent, error)
            yield False
            return
        yield True


def _wait() -> None:
    log.info("another process measures which engine is the fastest; waiting for it")


def _place(model: str, ways: Sequence[Way], options: Options) -> Path:
    """The file for a question: the same one also where the answer is another by now."""
    files = [(way.label, way.artefact.name) for way in ways]  # other faces have other files
    question = [model, *files, options.threads, options.streams]
    name = sha256(json.dumps(question).encode()).hexdigest()[:12]
    stem = re.sub(r"[^A-Za-z0-9_-]", "_", Path(model).stem)[:60]
    return cache_dir() / _FOLDER / stem / f"{name}.json"


def _key(model: str, ways: Sequence[Way], options: Options) -> dict[str, Any]:
    """All that an answer depends on."""
    return {
        **_machine(),
        "model": model,
        "threads": options.threads or available_cpus(),
        "streams": options.streams,
        "ways": {way.label: _identity(way.artefact) for way in ways},
    }


def _machine() -> dict[str, Any]:
    cpu, features = describe_cpu()
    installed = installed_packages()
    engines = {name: installed.get(name, "") for name in ("onnxruntime", "openvino")}
    version = {"allfocus": allfocus.__version__}
    return {"cpu": cpu, "features": list(features), "cpus": available_cpus(), **engines, **version}


def _identity(path: Path) -> list[Any]:
    """A file's name, size and time; its weights, where they are beside it, belong to it."""
    try:
        found = path.stat()
    except OSError:  # the engine will tell
        return [path.name]
    return [path.name, found.st_size, found.st_mtime_ns]


def _recalled(path: Path, key: dict[str, Any]) -> _Note | None:
    """What is remembered, if it is about just this."""
    note = _read(path)
    if note is None or note.key != key or {m.label for m in note.measured} != set(key["ways"]):
        return None
    return note


def _read(path: Path) -> _Note | None:
    """A file's content; None where it is not there, damaged, or of something else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != _SCHEMA:
            return None
        measured = tuple(_row(each) for each in data["measured"])
        str(data["key"]["model"])
        return _Note(dict(data["key"]), str(data["frame"]), measured)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _row(row: Any) -> Measured:
    ms = None if row["ms"] is None else float(row["ms"])
    if ms is not None and not 0 < ms < 1e9:
        raise ValueError(f"milliseconds {ms}")
    return Measured(str(row["label"]), ms, str(row["problem"]))


def _remember(path: Path, note: _Note) -> None:
    rows = [{"label": m.label, "ms": m.ms, "problem": m.problem} for m in note.measured]
    content = {"schema": _SCHEMA, "key": note.key, "frame": note.frame, "measured": rows}
    try:
        with publish(path) as draft:
            draft.write_text(json.dumps(content, indent=1), encoding="utf-8")
    except AllfocusError as error:
        log.warning(_EACH_TIME, path.parent.parent, error)


def _time(measured: Measured) -> str:
    return "failed" if measured.ms is None else f"{measured.ms:.1f} ms"
