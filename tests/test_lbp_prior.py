"""The prior of focus by local binary patterns: what it counts, and that blur lowers it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from allfocus.export.samples import read_photo
from allfocus.runtime.errors import UsageError
from allfocus.runtime.spec import Size
from allfocus.train.lbp_prior import THRESHOLD, _textured, focus_prior


def photo() -> Tensor:
    """The package's photo, a cat in focus: [1, 3, 256, 384]."""
    pixels = np.ascontiguousarray(read_photo(Size(384, 256)).transpose(2, 0, 1))
    return torch.from_numpy(pixels)[None].float() / 255


def blurred(image: Tensor, sigma: float) -> Tensor:
    """By a Gaussian of `sigma` pixels, rounded to 8 bits."""
    reach = math.ceil(3 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    taps = (taps / taps.sum()).expand(3, 1, -1)
    padded = F.pad(image, (reach,) * 4, mode="reflect")
    rows = F.conv2d(padded, taps[:, :, None, :], groups=3)
    return (F.conv2d(rows, taps[:, :, :, None], groups=3) * 255).round() / 255


def _kind(ring: list[float]) -> float:
    """Whether the prior counts a pixel of brightness 0 in a ring of 8 pixels so bright.

    Samples at the corners lie between four pixels: there the ring must be clearly bright or dark.
    """
    pixels = torch.zeros(3, 3)
    for (row, column), value in zip(
        [(1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0), (0, 1), (0, 2)], ring, strict=True
    ):
        pixels[row, column] = value
    return float(_textured(pixels.expand(1, 3, 3, 3))[0, 0, 1, 1])


@pytest.mark.parametrize(
    ("bright", "counted"),
    [
        ("00000000", 0.0),  # flat
        ("11000001", 0.0),  # an edge
        ("11110001", 0.0),  # 5 in a row
        ("11111001", 1.0),  # 6
        ("11111111", 1.0),  # a dark spot
        ("10001000", 1.0),  # a dark line's cross-section: 4 changes, not uniform
    ],
)
def test_it_counts_the_patterns_that_blur_removes(bright: str, counted: float) -> None:
    assert _kind([float(bit) - (bit == "0") for bit in bright]) == counted


def test_differences_under_the_threshold_are_flat() -> None:
    spot = [THRESHOLD * 1.01] * 8
    assert _kind([value * 2 for value in spot]) == 1.0
    assert _kind([value * 0.9 for value in spot]) == 0.0


def test_a_texture_scores_higher_than_its_blur() -> None:
    scores = [float(focus_prior(blurred(photo(), sigma)).mean()) for sigma in (0.5, 1.0, 2.0)]
    sharp = float(focus_prior(photo()).mean())
    assert sharp > scores[0] > scores[1] > scores[2]
    assert sharp > 0.25
    assert scores[2] < 0.02


def test_a_half_blurred_picture_is_taken_apart() -> None:
    image = photo()
    image[..., 192:] = blurred(image, 2.5)[..., 192:]
    prior = focus_prior(image)
    left, right = float(prior[..., :180].mean()), float(prior[..., 204:].mean())
    assert left > 10 * right
    assert left > 0.25


def test_it_is_a_plane_in_0_to_1_and_the_same_each_time() -> None:
    images = torch.cat((photo(), blurred(photo(), 1.0)))
    prior = focus_prior(images)
    assert prior.shape == (2, 1, 256, 384)
    assert prior.dtype == torch.float32
    assert float(prior.min()) >= 0
    assert float(prior.max()) == 1  # the cat's fur
    assert torch.equal(prior, focus_prior(images))
    torch.testing.assert_close(prior[:1], focus_prior(images[:1]), rtol=0, atol=0)


def test_a_picture_smaller_than_a_window_works() -> None:
    noise = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert focus_prior(noise).shape == (1, 1, 4, 5)
    assert float(focus_prior(torch.full((1, 3, 1, 1), 0.5))) == 0


def test_no_gradient_flows_through_it() -> None:
    assert not focus_prior(torch.rand(1, 3, 8, 8, requires_grad=True)).requires_grad


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 3, 0, 8)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"expected pictures \[N, 3, H, W\], got"):
        focus_prior(torch.zeros(shape))


def test_autocast_changes_nothing() -> None:
    image = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(3))
    plain = focus_prior(image)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(focus_prior(image), plain)
