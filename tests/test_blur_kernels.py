"""Learnable blur kernels: eq. 3's shape, what blurring keeps, and where gradients go."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from allfocus.train import blur_kernels
from allfocus.train.blur_kernels import BlurKernels, Config, initial_kernel

SMALL = Config(max_radius=4)


def picture(height: int, width: int) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def radii(like: Tensor, value: float) -> Tensor:
    return torch.full_like(like[:, :1], value)


@pytest.fixture(scope="module")
def full() -> BlurKernels:
    return BlurKernels(Config())


def test_there_is_a_kernel_for_each_radius_and_it_sums_to_one(full: BlurKernels) -> None:
    kernels = [kernel.detach() for kernel in full.kernels()]
    assert len(kernels) == 25
    for radius, kernel in enumerate(kernels, start=1):
        assert kernel.shape[0] == kernel.shape[1] > 2 * radius
        assert kernel.shape[0] % 2 == 1
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-5)
        assert kernel.min() >= 0


def test_kernels_start_as_eq_3_says(full: BlurKernels) -> None:
    for radius, kernel in enumerate(full.kernels(), start=1):
        expected = torch.from_numpy(initial_kernel(radius, full.config)).float()
        torch.testing.assert_close(kernel, expected, rtol=1e-3, atol=1e-6)


def test_a_new_kernel_is_round(full: BlurKernels) -> None:
    for kernel in full.kernels():
        for other in (kernel.T, kernel.flip(0), kernel.flip(1)):
            torch.testing.assert_close(other, kernel, rtol=1e-4, atol=1e-7)
    largest = list(full.kernels())[-1].detach()
    middle = largest.shape[0] // 2
    for leg, other, hypotenuse in ((3, 4, 5), (9, 12, 15), (15, 20, 25)):
        straight = float(largest[middle, middle + hypotenuse])
        assert float(largest[middle + leg, middle + other]) == pytest.approx(straight, rel=0.05)


def test_a_new_kernel_is_a_high_pass_on_a_disc() -> None:
    config = Config(max_radius=20, order=3, cutoff=0.4, smoothing=0.01)
    kernel = initial_kernel(20, config)
    row = kernel[kernel.shape[0] // 2, kernel.shape[0] // 2 :]
    edge = row[18]
    assert row[0] < 1e-3 * edge
    assert row[8] == pytest.approx(edge / 2, rel=0.05)  # D0 = 0.4 * 20
    assert row[4] == pytest.approx(edge / (1 + 2**6), rel=0.1)  # half of D0, n = 3
    assert row[21] < 1e-3 * edge


def test_training_keeps_kernels_normal_whatever_it_does() -> None:
    kernels = BlurKernels(SMALL)
    with torch.no_grad():
        for parameter in kernels.parameters():
            parameter.add_(5 * torch.randn_like(parameter))
    for kernel in kernels.kernels():
        assert float(kernel.detach().sum()) == pytest.approx(1, abs=1e-5)
        assert kernel.min() >= 0


def test_radius_0_is_the_identity() -> None:
    image = picture(9, 14)
    with torch.no_grad():
        assert torch.equal(BlurKernels(SMALL)(image, radii(image, 0)), image)


def test_a_point_becomes_its_kernel() -> None:
    kernels = BlurKernels(SMALL)
    point = torch.zeros(1, 3, 31, 33)
    point[:, :, 15, 16] = 1
    for radius, kernel in enumerate(kernels.kernels(), start=1):
        reach = kernel.shape[0] // 2
        seen = kernels(point, radii(point, radius))[0, 1].detach()
        around = seen[15 - reach : 16 + reach, 16 - reach : 17 + reach]
        torch.testing.assert_close(around, kernel.detach().flip(0, 1), rtol=0, atol=1e-6)
        assert float(seen.sum()) == pytest.approx(1, abs=1e-4)


def test_each_pixel_is_blurred_with_the_kernel_of_its_radius() -> None:
    """Against convolutions written out, with lopsided kernels, and a map of many radii."""
    torch.manual_seed(0)
    kernels = BlurKernels(SMALL)
    image = picture(12, 17)
    with torch.no_grad():
        for parameter in kernels.parameters():
            parameter.add_(torch.randn_like(parameter))
        radius = torch.rand(2, 1, 12, 17) * 5 - 0.5  # some below 0, some beyond 4
        stack = [image]
        for kernel in kernels.kernels():
            weight = kernel.flip(0, 1).expand(3, 1, -1, -1)  # conv2d does not turn it
            padded = F.pad(image, (kernel.shape[0] // 2,) * 4, mode="replicate")
            stack.append(F.conv2d(padded, weight, groups=3))
        held = radius.clamp(0, 4)
        low = held.floor().clamp(max=3).long()
        planes = torch.stack(stack)  # [5, 2, 3, 12, 17]
        index = low.expand(-1, 3, -1, -1)[None]
        below, above = planes.gather(0, index)[0], planes.gather(0, index + 1)[0]
        expected = below + (held - low) * (above - below)
        torch.testing.assert_close(kernels(image, radius), expected, rtol=0, atol=1e-5)


def test_a_constant_picture_keeps_its_light() -> None:
    image = torch.full((1, 3, 20, 30), 0.7)
    radius = torch.rand(1, 1, 20, 30, generator=torch.Generator().manual_seed(1)) * 25
    with torch.no_grad():
        blurred = BlurKernels(Config())(image, radius)
    torch.testing.assert_close(blurred, image, rtol=0, atol=1e-5)


def test_gradients_reach_every_kernel_and_the_map() -> None:
    kernels = BlurKernels(SMALL)
    image = picture(24, 24)
    radius = (torch.rand(2, 1, 24, 24) * 4).requires_grad_()
    loss = torch.stack(
        [*blur_kernels.map_objective(kernels(image, radius), image, radius).values()]
    ).sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in kernels.parameters())
    assert radius.grad is not None
    assert (radius.grad != 0).double().mean() > 0.99


def test_a_map_is_found_from_its_blur() -> None:
    """What the map's net is trained by: descending eq. 5 leads to the radius that made the blur."""
    kernels = BlurKernels(SMALL).requires_grad_(False)
    image = picture(32, 32)
    blurry = kernels(image, radii(image, 2.5))
    radius = torch.tensor(1.2, requires_grad=True)
    optimizer = torch.optim.Adam([radius], 0.1)
    for _ in range(60):
        plane = radius.expand(2, 1, 32, 32)
        loss = torch.stack(
            [*blur_kernels.map_objective(kernels(image, plane), blurry, plane).values()]
        ).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert radius.item() == pytest.approx(2.5, abs=0.2)


def test_a_crop_of_256_takes_all_25_radii(full: BlurKernels) -> None:
    """Half a second on one core; what is kept for the way back is no stack of unfolded patches."""
    image = picture(256, 256)[:1]
    radius = torch.linspace(0, 25, 256).expand(1, 1, 256, 256).clone().requires_grad_()
    saved: list[int] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda t: (saved.append(t.numel() * t.element_size()), t)[1], lambda t: t
    )
    with hooks:
        full(image, radius).mean().backward()
    assert sum(saved) < 200e6


def test_the_losses_on_numbers_worked_out_by_hand() -> None:
    blurry, reblurred = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.25)
    radius = torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]])
    assert blur_kernels.geometric_loss(reblurred, blurry).item() == pytest.approx(0.25)
    assert blur_kernels.roughness(radius).item() == pytest.approx((2 + 4) / 2 + (1 + 3) / 2)
    parts = blur_kernels.map_objective(reblurred, blurry, radius)
    assert {name: part.item() for name, part in parts.items()} == {
        "geometric": pytest.approx(0.25),
        "roughness": pytest.approx(5e-5),
    }


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"radius: expected one plane .* got \[2, 3, 8, 8\]"):
        BlurKernels(SMALL)(picture(8, 8), picture(8, 8))


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"max_radius": 0}, "max_radius: expected at least 1, got 0"),
        ({"order": 0}, "order: expected at least 1, got 0"),
        ({"cutoff": 1.0}, "cutoff: expected between 0 and 1, got 1.0"),
        ({"smoothing": 0.0}, "smoothing: expected between 0 and 1, got 0.0"),
    ],
)
def test_a_wrong_config_says_which_value(changed: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Config(**changed)  # type: ignore[arg-type]
