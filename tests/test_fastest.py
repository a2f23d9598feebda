"""What is the fastest: measured once, remembered, and measured again where it may have changed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import numpy as np
import pytest
from specs import SPEC

from allfocus.runtime import fastest
from allfocus.runtime.backend import Array, Backend, Options
from allfocus.runtime.errors import ArtefactError, BackendError
from allfocus.runtime.fastest import Measured, ordered, ranked, remembered
from allfocus.runtime.onnx_backend import OnnxBackend
from allfocus.runtime.spec import Graph, Size, Spec
from allfocus.runtime.ways import Way


class Timed(OnnxBackend):
    """Runs in no time; `fastest` is told another by a clock that stands in."""

    name = "cpu"
    open_now: int = 0

    def _load(self) -> tuple[Spec, Graph]:
        Timed.open_now += 1
        return SPEC, Graph(io="float", precision="fp32", color="rgb", shapes=None)

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        assert inputs["image"].shape == (1, 3, 96, 128)
        if self.options.device == 9:
            raise BackendError("out of memory")
        return {"sharp": np.zeros(1)}

    def _close(self) -> None:
        Timed.open_now -= 1

    def length(self, name: str) -> int:
        assert name == "image"
        return 0


class World:
    """Milliseconds of each way, or the error that loading it raises."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.ms: dict[str, float] = {}
        self.broken: dict[str, Exception] = {}
        self.started: list[str] = []
        self.backends: dict[int, str] = {}

    def ways(self) -> list[Way]:
        labels = [*self.ms, *self.broken]
        return [Way(b, self.file, p) for b, p in (label.split() for label in labels)]  # type: ignore[arg-type]

    def start(self, way: Way) -> Backend:
        self.started.append(way.label)
        if way.label in self.broken:
            raise self.broken[way.label]
        made = Timed(self.file, Options(device=9 if self.ms[way.label] < 0 else 0))
        self.backends[id(made)] = way.label
        return made

    def once(self, backend: Backend) -> float:
        backend.run(backend.blank(Size(128, 96)))  # type: ignore[attr-defined]
        return self.ms[self.backends[id(backend)]]

    def choose(self, **options: Any) -> tuple[str, list[tuple[str, str]]]:
        """What is taken, and what is said against the others."""
        with ranked("model", self.ways(), self.start, Options(**options)) as ranking:
            way = ranking.ways[0]
            backend = ranking.take(way)
            against = ranking.against(way)
        assert Timed.open_now == 1
        backend.close()
        return way.label, against


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    file = tmp_path / "x.onnx"
    file.write_bytes(b"x")
    made = World(file)
    monkeypatch.setattr(fastest, "_once", made.once)
    return made


def note(cache: Path) -> Path:
    (found,) = (cache / "fastest").glob("*/*.json")
    return found


def test_the_fastest_is_taken_and_remembered(world: World, own_cache: Path) -> None:
    world.ms = {"cpu fp32": 9.0, "openvino fp32": 8.9, "openvino bf16": 5.14, "cpu int8": 3.2}
    against = [
        ("openvino bf16", "5.1 ms for a frame of 128x96, cpu int8 3.2 ms"),
        ("openvino fp32", "8.9 ms for a frame of 128x96, cpu int8 3.2 ms"),
        ("cpu fp32", "9.0 ms for a frame of 128x96, cpu int8 3.2 ms"),
    ]
    assert world.choose() == ("cpu int8", against)
    assert sorted(world.started) == sorted(world.ms)
    world.started.clear()
    world.ms["openvino bf16"] = 1.0  # nobody looks
    assert world.choose() == ("cpu int8", against)
    assert world.started == ["cpu int8"]
    (found,) = remembered()
    assert (found.model, found.current, found.frame) == ("model", True, "128x96")
    assert str(found).startswith("cpu int8 3.2 ms, openvino bf16 5.1 ms")
    assert [path.suffix for path in note(own_cache).parent.iterdir()] == [".json"]
    assert not list(own_cache.glob("*/*.json"))  # where manifests are looked for


def test_a_less_exact_way_must_be_faster_by_a_tenth(world: World) -> None:
    world.ms = {"cpu int8": 4.8, "cpu fp32": 5.0}
    reason = "4.8 ms for a frame of 128x96, cpu fp32 5.0 ms and more exact"
    assert world.choose() == ("cpu fp32", [("cpu int8", reason)])
    ways = world.ways()
    for ms, taken in ((5.0, "cpu fp32"), (6.0, "cpu int8")):
        times = {"cpu int8": Measured("cpu int8", 4.8, ""), "cpu fp32": Measured("", ms, "")}
        assert ordered(ways, times)[0].label == taken


def test_one_way_alone_is_not_measured(world: World, own_cache: Path) -> None:
    world.ms = {"cpu fp32": 1.0}
    assert world.choose() == ("cpu fp32", [])
    assert not (own_cache / "fastest").exists()


def test_what_does_not_load_or_run_is_passed_over_and_tried_again(world: World) -> None:
    """What was out of memory once may have it the next time."""
    world.ms = {"cpu fp32": 5.0, "openvino fp32": -1.0}
    world.broken = {"openvino bf16": ArtefactError("its pictures would be wrong")}
    against = [("openvino fp32", "out of memory"), ("openvino bf16", "its pictures would be wrong")]
    assert world.choose() == ("cpu fp32", against)
    world.ms["openvino fp32"] = 4.0
    assert world.choose()[0] == "openvino fp32"
    world.started.clear()
    assert world.choose()[0] == "openvino fp32"
    assert world.started == ["openvino fp32"]  # a file that is computed wrongly stays one


def test_where_nothing_loads_nothing_is_remembered(world: World, own_cache: Path) -> None:
    world.broken = {"cpu fp32": BackendError("a"), "cpu int8": BackendError("b")}
    with ranked("m", world.ways(), world.start, Options()) as ranking:
        assert [way.label for way in ranking.ways] == ["cpu fp32", "cpu int8"]
        with pytest.raises(BackendError, match="a"):
            ranking.take(ranking.ways[0])
    assert not list((own_cache / "fastest").glob("*/*.json"))


def change_cpu(world: World, patch: pytest.MonkeyPatch) -> None:
    del world
    patch.setattr(fastest, "describe_cpu", lambda: ("another", ()))


def change_count(world: World, patch: pytest.MonkeyPatch) -> None:
    del world
    patch.setattr(fastest, "available_cpus", lambda: 77)


def change_version(world: World, patch: pytest.MonkeyPatch) -> None:
    del world
    patch.setattr(fastest, "installed_packages", lambda: {"openvino": "1999"})


def change_file(world: World, patch: pytest.MonkeyPatch) -> None:
    del patch
    world.file.write_bytes(b"other")


def touch_file(world: World, patch: pytest.MonkeyPatch) -> None:
    del patch
    os.utime(world.file, (1, 1))


@pytest.mark.parametrize(
    "change", [change_cpu, change_count, change_version, change_file, touch_file]
)
def test_it_is_measured_again_where_something_has_changed(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    own_cache: Path,
    change: Callable[[World, pytest.MonkeyPatch], None],
) -> None:
    world.ms = {"cpu fp32": 9.0, "openvino fp32": 5.0}
    assert world.choose()[0] == "openvino fp32"
    change(world, monkeypatch)
    world.ms["cpu fp32"] = 1.0
    assert world.choose()[0] == "cpu fp32"
    assert note(own_cache)  # one file still: the former answer is gone


def test_other_threads_are_another_question(world: World) -> None:
    world.ms = {"cpu fp32": 9.0, "openvino fp32": 5.0}
    assert world.choose()[0] == "openvino fp32"
    world.ms["cpu fp32"] = 1.0
    assert world.choose(threads=1)[0] == "cpu fp32"
    assert world.choose(streams=2)[0] == "cpu fp32"
    assert world.choose()[0] == "openvino fp32"


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 9999),
        b'{"schema": "allfocus.fastest/1"}',
        b'{"schema": "another", "key": {"model": 1}, "frame": "", "measured": []}',
        b'{"schema": "allfocus.fastest/1", "key": {"model": "m"}, "frame": "", "measured": [1]}',
    ],
)
def test_a_damaged_file_is_written_anew(world: World, own_cache: Path, content: bytes) -> None:
    world.ms = {"cpu fp32": 9.0, "openvino fp32": 5.0}
    world.choose()
    path = note(own_cache)
    good = path.read_bytes()
    path.write_bytes(content)
    assert remembered() == []
    assert world.choose()[0] == "openvino fp32"
    assert path.read_bytes() == good


@pytest.mark.parametrize(("name", "value"), [("ms", float("nan")), ("ms", -1), ("label", "other")])
def test_a_file_with_another_answer_is_not_believed(
    world: World, own_cache: Path, name: str, value: Any
) -> None:
    world.ms = {"cpu fp32": 9.0, "openvino fp32": 5.0}
    world.choose()
    path = note(own_cache)
    data = json.loads(path.read_text())
    data["measured"][0][name] = value
    path.write_text(json.dumps(data))
    world.started.clear()
    assert world.choose()[0] == "openvino fp32"
    assert len(world.started) == 2


def test_where_nothing_can_be_written_it_is_measured_each_time(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ALLFOCUS_CACHE", str(tmp_path / "file" / "cache"))
    world.ms = {"cpu fp32": 9.0, "openvino fp32": 5.0}
    for _ in range(2):
        world.started.clear()
        assert world.choose()[0] == "openvino fp32"
        assert len(world.started) == 2
    assert "what is fastest is measured at every start" in caplog.text


_CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from allfocus.runtime import fastest
from test_fastest import World
world = World(Path(sys.argv[2]))
fastest._once = world.once
world.ms = {"cpu fp32": 9.0, "openvino fp32": 5.0}
print(world.choose()[0], len(world.started))
"""


def test_processes_that_start_at_once_measure_once(tmp_path: Path, own_cache: Path) -> None:
    file = tmp_path / "x.onnx"
    file.write_bytes(b"x")
    words = [sys.executable, "-c", _CHILD, str(Path(__file__).parent), str(file)]
    started = [Popen(words, stdout=PIPE, text=True) for _ in range(3)]
    told = sorted(process.communicate(timeout=60)[0] for process in started)
    assert told == ["openvino fp32 1\n", "openvino fp32 1\n", "openvino fp32 2\n"]
    assert note(own_cache)
