"""A Deblurrer against the PyTorch net it was exported from, and how it lives and ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import specs
from numpy.typing import NDArray

import allfocus
from allfocus import Deblurrer
from allfocus.runtime.backend import Backend, Options, Outputs
from allfocus.runtime.errors import ArtefactError, InputError
from allfocus.runtime.frame import checked
from allfocus.runtime.spec import Graph, Spec

if TYPE_CHECKING:
    from conftest import Exported

PHOTO = Path(allfocus.__file__).parent / "data" / "chelsea.png"  # 451x300: no multiple of 4
SIZES = [(1, 1), (1, 9), (3, 2), (16, 24), (37, 50), (65, 31)]  # height, width
SPEC = replace(specs.SPEC, name="fake", halo=1)

Array = NDArray[Any]


@pytest.fixture
def by_float(tiny: Exported) -> Iterator[Deblurrer]:
    with allfocus.load(tiny.float, backend="cpu", threads=1) as deblur:
        yield deblur


@pytest.fixture
def by_frame(tiny: Exported) -> Iterator[Deblurrer]:
    with allfocus.load(tiny.frame, backend="cpu", threads=1) as deblur:
        yield deblur


def noise(height: int, width: int, dtype: type = np.uint8, channels: int = 3) -> Array:
    values = np.random.default_rng(height * 1000 + width).random((height, width, channels))
    top = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    return (values * top).astype(dtype)


def torch_result(tiny: Exported, rgb: Array) -> tuple[Array, Array]:
    """Sharp [H, W, 3] in [0, 1], clipped, and map [H, W]; the frame padded by NumPy, not OpenCV."""
    import torch

    height, width = rgb.shape[:2]
    padded = np.pad(rgb, ((0, -height % 4), (0, -width % 4), (0, 0)), mode="reflect")
    with torch.inference_mode():
        sharp, defocus = tiny.net(torch.from_numpy(padded.transpose(2, 0, 1)[None].copy()))
    image = sharp[0].numpy().transpose(1, 2, 0)[:height, :width]
    return np.clip(image, 0, 1), defocus[0, 0].relu().numpy()[:height, :width]


@pytest.mark.parametrize("size", SIZES)
def test_float_face_equals_pytorch_at_any_size(
    tiny: Exported, by_float: Deblurrer, size: tuple[int, int]
) -> None:
    frame = noise(*size, dtype=np.float32)
    sharp, defocus = torch_result(tiny, frame[..., ::-1])
    result = by_float(frame)
    np.testing.assert_allclose(result.image, sharp[..., ::-1], atol=1e-5)
    assert result.defocus is not None
    assert result.defocus.dtype == np.float32
    np.testing.assert_allclose(result.defocus, defocus * tiny.spec.max_radius, atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_frame_face_equals_pytorch_within_a_level(
    tiny: Exported, by_frame: Deblurrer, size: tuple[int, int]
) -> None:
    frame = noise(*size)
    sharp, defocus = torch_result(tiny, frame[..., ::-1].astype(np.float32) / 255)
    result = by_frame(frame)
    assert result.image.dtype == np.uint8
    assert result.image.shape == frame.shape
    assert np.abs(result.image - sharp[..., ::-1] * 255).max() <= 0.51
    assert result.defocus is not None
    np.testing.assert_allclose(result.defocus, defocus * tiny.spec.max_radius, atol=1e-4)


def test_both_faces_agree_on_a_photo(by_float: Deblurrer, by_frame: Deblurrer) -> None:
    photo = cv2.imread(str(PHOTO))
    assert photo is not None
    one, other = by_float(photo).image, by_frame(photo).image
    assert one.shape == photo.shape
    assert np.abs(one.astype(int) - other).max() <= 1
    assert not np.array_equal(one, photo)


@pytest.mark.parametrize("face", ["float", "frame"])
def test_rgb_frames_give_what_bgr_frames_give(tiny: Exported, face: str) -> None:
    frame = noise(20, 30)
    path = getattr(tiny, face)
    with allfocus.load(path, backend="cpu") as bgr, allfocus.load(path, color="rgb") as rgb:
        np.testing.assert_array_equal(rgb(frame[..., ::-1]).image[..., ::-1], bgr(frame).image)


def test_sixteen_bit_frames_keep_their_depth(tiny: Exported, by_float: Deblurrer) -> None:
    frame = noise(21, 18, dtype=np.uint16)
    sharp, _ = torch_result(tiny, frame[..., ::-1].astype(np.float32) / 65535)
    result = by_float(frame)
    assert result.image.dtype == np.uint16
    assert np.abs(result.image - sharp[..., ::-1] * 65535.0).max() <= 2


def test_grey_is_the_mean_of_three_equal_channels(by_float: Deblurrer) -> None:
    grey = noise(19, 27, channels=1)
    color = by_float(np.repeat(grey, 3, axis=2)).image
    for frame in (grey, grey[..., 0]):
        image = by_float(frame).image
        assert image.shape == frame.shape
        assert np.abs(image.reshape(19, 27) - color.mean(axis=2)).max() <= 0.51


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_alpha_is_carried_over(by_float: Deblurrer, dtype: type) -> None:
    frame = noise(13, 10, dtype, channels=4)
    image = by_float(frame).image
    np.testing.assert_array_equal(image[..., 3], frame[..., 3])
    np.testing.assert_array_equal(image[..., :3], by_float(frame[..., :3]).image)


@pytest.mark.parametrize("face", ["float", "frame"])
def test_views_and_read_only_frames_give_the_same(tiny: Exported, face: str) -> None:
    frame = noise(22, 34)
    locked = frame.copy()
    locked.flags.writeable = False
    big = np.zeros((44, 68, 5), np.uint8)
    big[::2, ::2, 1:4] = frame
    mirrored = np.ascontiguousarray(frame[::-1, ::-1, ::-1])
    views = [
        locked,
        np.asfortranarray(frame),
        big[::2, ::2, 1:4],
        mirrored[::-1, ::-1, ::-1],
        frame.view(np.recarray),
    ]
    with allfocus.load(getattr(tiny, face), backend="cpu") as deblur:
        expected = deblur(frame).image
        for view in views:
            np.testing.assert_array_equal(deblur(view).image, expected)


@pytest.mark.parametrize("face", ["float", "frame"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_results_are_fresh_arrays(tiny: Exported, face: str, channels: int) -> None:
    frame = noise(8, 12, channels=channels)
    before = frame.copy()
    with allfocus.load(getattr(tiny, face), backend="cpu") as deblur:
        first = deblur(frame)
        kept = first.image.copy(), first.defocus.copy()
        second = deblur(255 - frame)
    np.testing.assert_array_equal(frame, before)
    np.testing.assert_array_equal(first.image, kept[0])
    np.testing.assert_array_equal(first.defocus, kept[1])
    arrays = [frame, first.image, second.image]
    assert not any(np.may_share_memory(a, b) for a in arrays for b in arrays if a is not b)
    assert not np.may_share_memory(first.defocus, second.defocus)
    assert all(r.image.flags.writeable and r.image.flags.c_contiguous for r in (first, second))


def test_sizes_may_alternate(by_float: Deblurrer) -> None:
    large, small = noise(30, 40), noise(29, 39)  # both padded: to 32x40
    expected = by_float(large).image
    by_float(small)
    np.testing.assert_array_equal(by_float(large).image, expected)


def test_threads_wait_for_each_other(by_float: Deblurrer) -> None:
    frames = [noise(16, 16 + i) for i in range(6)]
    expected = [by_float(frame).image for frame in frames]
    got: dict[int, Array] = {}

    def work(index: int) -> None:
        for _ in range(3):
            got[index] = by_float(frames[index]).image

    threads = [Thread(target=work, args=(i,)) for i in range(len(frames))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, image in got.items():
        np.testing.assert_array_equal(image, expected[index])
    assert len(got) == len(frames)


def test_timings_are_milliseconds_of_the_three_stages(by_float: Deblurrer) -> None:
    timings = by_float(noise(64, 64)).timings
    assert list(timings) == ["pre", "infer", "post"]
    assert all(0 < value < 60_000 for value in timings.values())


def test_the_model_is_described(tiny: Exported, by_frame: Deblurrer) -> None:
    assert by_frame.spec == tiny.spec
    assert by_frame.graph.io == "frame"
    assert by_frame.backend == "cpu"


def test_frames_of_other_depth_need_another_face(by_frame: Deblurrer) -> None:
    for dtype, io in ((np.uint16, "frame16"), (np.float32, "float")):
        with pytest.raises(InputError, match=f"--io {io}"):
            by_frame(noise(8, 8, dtype=dtype))


def test_closed_means_closed(tiny: Exported) -> None:
    deblur = allfocus.load(tiny.float, backend="cpu")
    deblur.close()
    deblur.close()
    with pytest.raises(ArtefactError, match="closed"):
        deblur(noise(8, 8))


def test_an_error_leaves_it_usable(by_float: Deblurrer) -> None:
    with pytest.raises(InputError):
        by_float([[1, 2], [3, 4]])
    assert by_float(noise(8, 8)).image.shape == (8, 8, 3)


class OnGpu:
    """A frame that says it lies in the memory of a GPU."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


class OnGpuByInterface:
    __cuda_array_interface__: dict[str, object] = {}  # noqa: RUF012


class GpuBackend(Backend):
    """A backend that takes GPU frames and gives back what it was given."""

    name = "fake"

    def _load(self) -> tuple[Spec, Graph]:
        return SPEC, Graph(io="frame", precision="fp16", color="bgr", shapes=None)

    def _run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"sharp": inputs["image"]}

    def infer_device(self, frame: Any) -> Outputs:
        return Outputs(frame, frame)

    def _close(self) -> None:
        pass


@pytest.mark.parametrize("frame", [OnGpu(), OnGpuByInterface()])
def test_gpu_frames_stay_on_the_gpu(frame: object) -> None:
    with Deblurrer(GpuBackend(Path("fake"), Options())) as deblur:
        result = deblur(frame)
        assert result.image is frame
        assert result.defocus is frame
        assert result.timings["pre"] == result.timings["post"] == 0


def test_gpu_frames_are_not_swapped() -> None:
    with (
        Deblurrer(GpuBackend(Path("fake"), Options()), color="rgb") as deblur,
        pytest.raises(InputError, match='color="bgr"'),
    ):
        deblur(OnGpu())


@pytest.mark.parametrize("quicker", [{"skip": 1.0}, {"coarse_map": True}])
def test_gpu_frames_are_not_taken_where_parts_of_them_would_count(quicker: dict[str, Any]) -> None:
    """A ladder's quicker step would cost what the best one does, and nobody would know."""

    def phases() -> tuple[Backend, Backend]:
        raise AssertionError

    backend = GpuBackend(Path("fake"), Options())
    with (
        Deblurrer(backend, phases=phases) as deblur,
        pytest.raises(InputError, match="as a whole, with nothing left out and no coarser map"),
    ):
        deblur.variant(**quicker)(OnGpu())


def test_gpu_frames_need_an_engine_that_takes_them(by_frame: Deblurrer) -> None:
    with pytest.raises(InputError, match=r"OnGpu.*'cpu'.*host"):
        by_frame(OnGpu())


def test_a_model_without_a_map_gives_none() -> None:
    with Deblurrer(GpuBackend(Path("fake"), Options())) as deblur:
        assert deblur(noise(7, 9)).defocus is None


def test_host_tensors_are_not_frames() -> None:
    torch = pytest.importorskip("torch", reason="needs a tensor")
    with pytest.raises(InputError, match=r"Tensor.*its \.numpy\(\)"):
        checked(torch.zeros(4, 4, 3, dtype=torch.uint8), "frame")
