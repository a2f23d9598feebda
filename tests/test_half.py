from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from allfocus.export.half import run_in_half
from allfocus.export.verify import check_half
from allfocus.runtime.errors import ParityError
from allfocus.train import checkpoint
from allfocus.train.models.base import Deblurrer


class Scale(Deblurrer):
    """Multiplies by `factor` and divides again: nothing in float32, an overflow in float16."""

    multiple, halo, max_radius = 1, 0, 1.0

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        scaled = image * self.factor * self.factor
        return scaled / self.factor / self.factor, image[:, :1]


def test_results_are_those_of_float16() -> None:
    image = torch.rand(1, 3, 8, 8)
    sharp, _ = run_in_half(Scale(3.0), image)
    half, three = image.half(), torch.tensor(3.0).half()
    assert torch.equal(sharp, (half * three * three / three / three).float())


def test_the_net_is_left_as_it_is() -> None:
    net = Scale(1 / 3)
    run_in_half(net, torch.rand(1, 3, 4, 4))
    assert net.factor.item() == pytest.approx(1 / 3, rel=1e-7)


def test_an_overflow_that_onnx_runtime_would_not_show_is_refused() -> None:
    with pytest.raises(ParityError, match="NaN or infinity"):
        check_half(Scale(1000.0))


def test_a_sound_net_passes() -> None:
    net, _ = checkpoint.random("didanet-tiny", 0)
    assert check_half(net.eval()) >= 60
