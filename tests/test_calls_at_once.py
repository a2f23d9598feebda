"""A Deblurrer and a Model that several threads use: nothing mixes, and the results are the same."""

from __future__ import annotations

from pathlib import Path
from threading import Barrier, Event, Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from at_once import PATIENCE, joined, started
from engine_files import SPEC
from tiny_graphs import Floats

import allfocus
from allfocus.runtime.backend import Array, Backend, Options
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.errors import ArtefactError, UsageError
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.spec import Graph, Size, Spec

if TYPE_CHECKING:
    from conftest import Exported

SIZES = ((16, 24), (13, 22), (31, 17))  # height, width


def frame(seed: int) -> Array:
    """One of three sizes; no two are alike."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*SIZES[seed % 3], 3)).astype(np.uint8)


class Meeting(Backend):
    """Gives back what it gets, once as many calls as there are `streams` have come."""

    name = "stand-in"

    def _load(self) -> tuple[Spec, Graph]:
        self.together = Barrier(self.options.streams)
        return SPEC, Graph(io="frame", precision="fp32", color="bgr", shapes=None)

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        self.together.wait(PATIENCE)
        return {"sharp": inputs["image"]}  # the buffer itself, as it is by then

    def _close(self) -> None:
        pass


class Held(Meeting):
    """Works until it is let go on."""

    def _load(self) -> tuple[Spec, Graph]:
        self.here, self.go_on = Barrier(self.options.streams + 1), Event()
        return super()._load()

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        self.here.wait(PATIENCE)
        assert self.go_on.wait(PATIENCE)
        return {"sharp": inputs["image"]}


def test_calls_at_once_have_buffers_of_their_own() -> None:
    with Deblurrer(Meeting(Path("fake"), Options(streams=3))) as deblur:
        assert deblur.streams == 3
        right: list[bool] = []
        for turn in range(4):
            frames = [frame(9 * turn + 3 * i) for i in range(3)]  # all of one size
            work = [lambda f=f: right.append(np.array_equal(deblur(f).image, f)) for f in frames]
            for thread in [started(each) for each in work]:
                joined(thread)
        assert right == [True] * 12


@pytest.mark.parametrize("io", ["frame", "float"])
def test_many_threads_get_what_one_gets(tiny: Exported, io: str) -> None:
    path, numbers, threads = getattr(tiny, io), range(24), 8
    with allfocus.load(path, backend="cpu", threads=1) as one:
        expected = [one(frame(number)) for number in numbers]
    found: dict[int, Any] = {}
    with allfocus.load(path, backend="cpu", threads=1, streams=3) as deblur:

        def work(first: int) -> None:
            for number in numbers[first::threads]:
                found[number] = deblur(frame(number))

        for thread in [started(lambda i=i: work(i)) for i in range(threads)]:
            joined(thread)
    assert sorted(found) == list(numbers)
    for number, result in found.items():
        np.testing.assert_array_equal(result.image, expected[number].image)
        np.testing.assert_array_equal(result.defocus, expected[number].defocus)


def test_a_model_takes_calls_at_once_too(floats: Floats) -> None:
    path, numbers = floats.file("didanet-tiny", "estimate"), range(12)
    with allfocus.load_model(path, threads=1, streams=3) as model:
        expected = [model(image=frame(number))["defocus"] for number in numbers]
        found: dict[int, Array] = {}

        def work(first: int) -> None:
            for number in numbers[first::4]:
                found[number] = model(image=frame(number))["defocus"]

        for thread in [started(lambda i=i: work(i)) for i in range(4)]:
            joined(thread)
    for number in numbers:
        np.testing.assert_array_equal(found[number], expected[number])
    with pytest.raises(ArtefactError, match="closed; load it again"):
        model(image=frame(0))


def test_both_phases_are_opened_once_and_shared(floats: Floats) -> None:
    opened: list[Backend] = []
    options = Options(threads=1, streams=2)

    def phases() -> tuple[Backend, Backend]:
        for phase in ("estimate", "restore"):
            opened.append(OrtBackend(floats.file("didanet-tiny", phase), options))
        return opened[0], opened[1]

    whole = OrtBackend(floats.file("didanet-tiny", "whole"), options)
    with Deblurrer(whole, phases=phases, skip=0.0) as deblur:
        found: dict[int, Any] = {}
        work = [lambda n=n: found.update({n: deblur(frame(n))}) for n in range(6)]
        for thread in [started(each) for each in work]:
            joined(thread)
        assert len(opened) == 2
        for number, result in found.items():
            np.testing.assert_array_equal(result.image, deblur(frame(number)).image)


def test_all_streams_share_the_memory(floats: Floats) -> None:
    def largest(streams: int) -> int:
        backend = OrtBackend(floats.file("didanet-tiny", "whole"), Options(streams=streams))
        backend.bytes_per_pixel = 1000.0
        with Deblurrer(backend, memory="100MB") as deblur, deblur._lanes.one() as lane:
            assert lane.direct.fits(Size(96, 64))
            return int(lane.direct._stage.pixels or 0)

    assert largest(4) == largest(1) // 4


def goes_on_until_closed(backend: Held, running: list[Thread], closing: Thread) -> None:
    """`closing` waits for calls at work, and ends with them."""
    closing.join(0.05)
    assert closing.is_alive()
    assert backend._open
    backend.go_on.set()
    for thread in (*running, closing):
        joined(thread)
    assert not backend._open


def test_closing_waits_for_calls_at_work_and_refuses_those_that_wait() -> None:
    backend = Held(Path("fake"), Options(streams=2))
    deblur = Deblurrer(backend)
    found: list[Any] = []
    running = [started(lambda n=n: found.append(deblur(frame(n)).image.shape)) for n in (0, 3)]
    backend.here.wait(PATIENCE)

    def late() -> None:
        with pytest.raises(ArtefactError, match="closed; load it again"):
            deblur(frame(6))
        found.append("refused")

    waiting, closing = started(late), started(deblur.close)
    joined(waiting)
    goes_on_until_closed(backend, running, closing)
    assert found == ["refused", (16, 24, 3), (16, 24, 3)]


def test_variants_take_turns_with_the_one_they_come_from() -> None:
    backend = Held(Path("fake"), Options(streams=2))
    deblur = Deblurrer(backend, phases=lambda: (backend, backend))
    others = [deblur.variant(skip="off"), deblur.variant(skip="off")]
    running = [started(lambda o=o: o(frame(0))) for o in others]
    backend.here.wait(PATIENCE)
    closing = started(deblur.close)
    goes_on_until_closed(backend, running, closing)


def test_a_variant_ends_with_the_one_it_comes_from() -> None:
    deblur = Deblurrer(
        Meeting(Path("fake"), Options()), phases=lambda: (deblur._backend, deblur._backend)
    )
    other = deblur.variant(skip="off")
    assert other.streams == 1
    deblur.close()
    with pytest.raises(ArtefactError, match="closed; load it again"):
        other(frame(0))


@pytest.mark.parametrize("opener", [allfocus.load, allfocus.load_model])
def test_less_than_one_stream_is_refused(tiny: Exported, opener: Any) -> None:
    with pytest.raises(UsageError, match="streams: expected a whole number of 1 or more, got 0"):
        opener(tiny.float, backend="cpu", streams=0)
