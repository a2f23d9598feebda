"""A Deblurrer of graphs of 16 bits and of luma and chroma, at once, in tiles and in two phases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_graphs import exported, graph_of

import allfocus
from allfocus.export import as_faces, samples
from allfocus.export.to_onnx import export, of_graph, write
from allfocus.runtime.backend import Backend, Options
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.errors import InputError
from allfocus.runtime.layout import as_frame
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.signature import PHASES, Phase
from allfocus.runtime.skip import Choice
from allfocus.runtime.spec import Graph, Io, Shapes, Size
from allfocus.train.checkpoint import random

Array = NDArray[Any]
Make = Callable[..., Deblurrer]

NAME = "didanet-tiny"
EACH = 1000.0  # bytes a pixel, in these tests
DEEP: list[Io] = ["frame16", "nv12"]
CHECKER = Path(allfocus.__file__).parent / "data" / "jdrl-reblur.onnx"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Io, Phase], Path]:
    """The phases in each face for any size, exported when asked for."""
    folder = tmp_path_factory.mktemp("deep")
    net, spec = random(NAME, 0)
    net.eval()

    def file(io: Io, phase: Phase) -> Path:
        path = folder / f"{io}-{phase}.onnx"
        if not path.exists():
            graph = graph_of(NAME, phase, io, "fp32", None)
            write(export(net, of_graph(spec, net, graph), graph), path)
        return path

    return file


@pytest.fixture
def opened(files: Callable[[Io, Phase], Path]) -> Iterator[Make]:
    with ExitStack() as stack:

        def make(
            io: Io,
            pixels: int = 10**9,
            skip: Choice = "off",
            *,
            phases: bool = True,
            fallback: float | None = None,
        ) -> Deblurrer:
            def load(phase: Phase) -> Backend:
                backend = OrtBackend(files(io, phase), Options(threads=1))
                backend.bytes_per_pixel = EACH
                return backend

            both = (lambda: (load("estimate"), load("restore"))) if phases else None
            memory = int(2 * pixels * (EACH + 40))
            made = Deblurrer(
                load("whole"),
                color="bgr" if io == "nv12" else "rgb",  # which says nothing of nv12
                phases=both,
                memory=memory,
                skip=skip,
                checker=OrtBackend(CHECKER, Options(threads=1)) if fallback else None,
                fallback=fallback,
            )
            return stack.enter_context(made)

        yield make


def photo(io: Io, width: int, height: int) -> Array:
    """The package's photo as the face's caller has it."""
    graph = Graph(io=io, precision="fp32", color="rgb", shapes=None)
    rgb = {"image": samples.planes(samples.read_photo(Size(width, height)))}
    return as_frame("image", as_faces.given(rgb, graph)["image"], io)[0]


def off(found: Array, expected: Array) -> float:
    """The largest difference, where 1 is white."""
    white = np.iinfo(found.dtype).max
    return float(np.abs(found.astype(np.float64) - expected).max() / white)


@pytest.mark.parametrize("io", DEEP)
def test_tiles_give_what_the_whole_frame_gives(opened: Make, io: Io) -> None:
    frame = photo(io, 190, 146)
    for phases in (False, True):  # two graphs pad less than one
        whole = opened(io, phases=phases)(frame)
        assert (whole.image.shape, whole.image.dtype) == (frame.shape, frame.dtype)
        assert whole.defocus is not None
        assert (whole.defocus.shape, whole.defocus.dtype) == ((146, 190), np.float32)
        assert off(whole.image, frame) > 0.02  # it does something
        tiled = opened(io, 112**2 // 2, phases=phases)
        other = tiled(frame)
        assert tiled._backend.calls + sum(b.calls for b in tiled._opened) > 3
        assert off(other.image, whole.image) <= (1 / 255 if io == "nv12" else 1e-4)
        np.testing.assert_allclose(other.defocus, whole.defocus, atol=1e-4)


@pytest.mark.parametrize("io", DEEP)
def test_what_is_skipped_is_the_frame_itself(opened: Make, io: Io) -> None:
    frame = photo(io, 190, 146)
    whole = opened(io)(frame)
    assert whole.defocus is not None
    level = float(np.median(whole.defocus))
    result = opened(io, skip=level)(frame)
    active = whole.defocus > level
    rows = frame.shape[0] if io == "frame16" else 146
    found, expected = result.image[:rows][active[:rows]], whole.image[:rows][active[:rows]]
    assert off(found, expected) <= (1 / 255 if io == "nv12" else 1e-4)
    still = opened(io, skip=1e6)(frame)
    assert still.skipped == 1
    np.testing.assert_array_equal(still.image, frame)
    assert not np.shares_memory(still.image, frame)


@pytest.mark.parametrize("io", DEEP)
def test_outputs_are_checked_and_fall_back(opened: Make, io: Io) -> None:
    """The weights are random ones: what they do is not what a lens undoes."""
    frame = photo(io, 94, 66)
    checked = opened(io, fallback=1.0)
    result, plain = checked(frame), opened(io)(frame)
    assert result.trust is not None
    assert (result.trust.shape, result.trust.dtype) == ((66, 94), np.float32)
    assert result.trust.mean() < 0.9 < checked.trust(frame, frame).mean()
    changes = [np.abs(each.image.astype(int) - frame) for each in (result, plain)]
    assert np.all(changes[0] <= changes[1])
    assert changes[0].sum() < changes[1].sum()
    painted = frame.copy()
    painted[10:30, 20:60] = frame[10:30, 20:60][::-1, ::-1] // 3
    trusted = checked.trust(frame, painted)
    assert trusted[15:25, 30:50].mean() < 0.5 < trusted[45:].mean()


@pytest.mark.parametrize("io", DEEP)
def test_a_coarse_map_does_for_them_too(opened: Make, io: Io) -> None:
    frame = photo(io, 94, 66)
    deblur = opened(io)
    exact, coarse = deblur.variant(skip="off")(frame), deblur.variant(skip="off", coarse_map=True)
    result = coarse(frame)
    assert result.defocus is not None
    assert result.defocus.shape == (66, 94)
    assert off(result.image, exact.image) < 0.1


def test_decoded_frames_of_any_even_size(opened: Make) -> None:
    deblur = opened("nv12")
    for width, height in ((2, 2), (6, 4), (38, 50)):
        result = deblur(photo("nv12", width, height))
        assert result.image.shape == (3 * height // 2, width)
        assert result.image.flags.c_contiguous


def test_views_and_rows_with_gaps_give_the_same(opened: Make) -> None:
    frame = photo("nv12", 40, 24)
    wide = np.zeros((36, 64), np.uint8)
    wide[:, :40] = frame
    deblur = opened("nv12")
    np.testing.assert_array_equal(deblur(wide[:, :40]).image, deblur(frame).image)
    kept = frame.copy()
    deblur(frame)
    np.testing.assert_array_equal(frame, kept)


def test_the_callers_color_is_of_no_matter_to_luma_and_chroma(
    files: Callable[[Io, Phase], Path],
) -> None:
    frame = photo("nv12", 40, 24)
    path = files("nv12", "whole")
    with allfocus.load(path) as bgr, allfocus.load(path, color="rgb") as rgb:
        np.testing.assert_array_equal(bgr(frame).image, rgb(frame).image)


def test_sixteen_bits_obey_it(files: Callable[[Io, Phase], Path]) -> None:
    frame = photo("frame16", 40, 24)
    path = files("frame16", "whole")
    with allfocus.load(path) as bgr, allfocus.load(path, color="rgb") as rgb:
        np.testing.assert_array_equal(bgr(frame[..., ::-1]).image[..., ::-1], rgb(frame).image)
        grey, alpha = frame[..., 0], np.dstack([frame, frame[..., :1]])
        assert bgr(grey).image.shape == grey.shape
        np.testing.assert_array_equal(rgb(alpha).image[..., 3], alpha[..., 3])
        np.testing.assert_array_equal(rgb(alpha).image[..., :3], rgb(frame).image)


def test_a_model_takes_them_by_name(files: Callable[[Io, Phase], Path]) -> None:
    """`load_model`, phase by phase, gives what the whole model gives."""
    frame = photo("nv12", 38, 26)
    with ExitStack() as stack:
        whole, estimate, restore = (
            stack.enter_context(allfocus.load_model(files("nv12", phase))) for phase in PHASES
        )
        expected = whole(image=frame)
        seen = estimate(image=frame)
        found = restore(image=frame, **seen)
        assert off(found["sharp"], expected["sharp"]) <= 1 / 255
        with pytest.raises(InputError, match="columns are odd"):
            whole(image=frame[:, :-1])


def test_phases_of_a_fixed_size_follow_each_other(tmp_path: Path) -> None:
    """A frame that is smaller than both: its map is as large as they are."""
    shapes, frame = Shapes.static(Size(96, 64)), photo("frame16", 60, 40)
    with ExitStack() as stack:
        whole, estimate, restore = (
            stack.enter_context(allfocus.load_model(_exported(tmp_path, phase, shapes)))
            for phase in PHASES
        )
        seen = estimate(image=frame)
        assert seen["defocus"].shape == (64, 96)
        found = restore(image=frame, **seen)["sharp"]
        assert off(found, whole(image=frame)["sharp"]) <= 1e-4
        with pytest.raises(InputError, match="defocus of 97x64: expected that of"):
            restore(image=frame, defocus=np.zeros((64, 97), np.float32))


def _exported(folder: Path, phase: Phase, shapes: Shapes) -> Path:
    path = folder / f"{phase}.onnx"
    exported(NAME, graph_of(NAME, phase, "frame16", "fp32", shapes), path)
    return path


@pytest.mark.parametrize("io", DEEP)
def test_other_frames_say_what_to_do(opened: Make, io: Io) -> None:
    with pytest.raises(InputError, match="--io frame"):
        opened(io)(np.zeros((8, 8, 3), np.uint8))


def test_graphs_of_luma_and_chroma_have_even_sizes() -> None:
    """Also where the net itself would take any."""
    net, spec = random(NAME, 0)
    net.multiple = 1
    for io, multiple in (("nv12", 2), ("frame16", 1)):
        graph = graph_of(NAME, "whole", io, "fp32", None)  # type: ignore[arg-type]
        assert of_graph(spec, net, graph).multiple == multiple
