"""Flow and warping on displacements that are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from allfocus.runtime.errors import InputError
from allfocus.train.dense_flow import LEAST, search
from allfocus.train.flow import calibration_mask, deformed_loss, dis_flow, warp


def photo(side: int = 64) -> torch.Tensor:
    coarse = np.random.default_rng(0).random((side // 4, side // 4, 3), np.float32)
    fine = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    return torch.from_numpy(fine).permute(2, 0, 1)[None]


def constant(dx: float, dy: float, side: int = 64) -> torch.Tensor:
    return torch.tensor([dx, dy]).view(1, 2, 1, 1).expand(1, 2, side, side)


def test_a_flow_tells_where_a_pixel_comes_from() -> None:
    source = photo()
    target = warp(source, constant(2, 0))
    torch.testing.assert_close(target[..., :-2], source[..., 2:], atol=1e-5, rtol=0)
    down = warp(source, constant(0, -3))
    torch.testing.assert_close(down[:, :, 3:], source[:, :, :-3], atol=1e-5, rtol=0)


def test_between_pixels_it_is_bilinear_and_the_border_goes_on() -> None:
    row = torch.tensor([0.0, 1.0, 4.0]).view(1, 1, 1, 3).expand(1, 1, 3, 3)
    moved = warp(row, constant(0.25, 0, 3))
    assert moved[0, 0, 0].tolist() == pytest.approx([0.25, 1.75, 4.0])


def test_the_search_finds_a_displacement() -> None:
    source = photo()
    target = warp(source, constant(2.0, -1.0))
    flow = dis_flow(source, target)
    middle = flow[:, :, 12:-12, 12:-12].mean((0, 2, 3))
    assert middle.tolist() == pytest.approx([2.0, -1.0], abs=0.25)
    error = (warp(source, flow) - target).abs().mean()
    assert error < 0.2 * (source - target).abs().mean()


def test_the_mask_drops_lengths_that_stick_out() -> None:
    flow = torch.zeros(1, 2, 1, 4)
    flow[0, 0, 0] = torch.tensor([1.0, 1.0, 1.2, 0.0])  # mean 0.8: 0.52 to 1.08 are kept
    assert calibration_mask(flow).flatten().tolist() == [1, 1, 0, 0]
    flow[0, 1] = 100.0  # lengths are then nearly the same
    assert calibration_mask(flow).flatten().tolist() == [1, 1, 1, 1]
    assert calibration_mask(torch.zeros(1, 2, 2, 2)).all()  # aligned: nothing is dropped


def test_the_loss_sees_nothing_but_what_is_trusted_and_reaches_the_source() -> None:
    source = torch.tensor([0.0, 0.5, 0.5, 0.5]).view(1, 1, 1, 4).requires_grad_()
    target = torch.zeros(1, 1, 1, 4)
    flow = torch.zeros(1, 2, 1, 4)
    flow[0, 0, 0] = torch.tensor([1.0, 1.0, 1.0, 0.0])
    far, near = (0.25 + 1e-6) ** 0.5, 1e-3
    everywhere = deformed_loss(source, target, flow, mask=False)
    assert everywhere.item() == pytest.approx(far)
    trusted = deformed_loss(source, target, flow, mask=True)
    assert trusted.item() == pytest.approx((3 * far + near) / 4)
    trusted.backward()  # type: ignore[no-untyped-call]
    assert source.grad is not None
    assert source.grad.flatten()[0] == 0  # no pixel of the target comes from there
    assert (source.grad.flatten()[1:] > 0).all()


@pytest.mark.parametrize("size", [(1, 200), (12, 200), (15, 50), (200, 15)])
def test_what_opencv_would_crash_on_is_refused(size: tuple[int, int]) -> None:
    picture = np.zeros(size, np.uint8)
    with pytest.raises(InputError, match=rf"at least 16x16 pixels, got {size[1]}x{size[0]}"):
        search(picture, picture)
    with pytest.raises(InputError, match="at least 16x16"):
        dis_flow(torch.zeros(1, 3, *size), torch.zeros(1, 3, *size))


@pytest.mark.parametrize("size", [(16, 16), (16, 200), (200, 16), (17, 45), (16, 46)])
def test_the_least_size_gives_a_flow(size: tuple[int, int]) -> None:
    assert min(size) >= LEAST
    one, two = np.random.default_rng(0).integers(0, 256, (2, *size), np.uint8)
    flow = search(one, two)
    assert flow.shape == (*size, 2)
    assert np.isfinite(flow).all()


def test_a_flow_does_not_depend_on_its_neighbours_in_a_batch() -> None:
    source = photo(40)
    target = warp(source, constant(2, 1, 40))
    pairs = torch.cat((source, target)), torch.cat((target, source))
    torch.testing.assert_close(dis_flow(*pairs)[1:], dis_flow(target, source))
