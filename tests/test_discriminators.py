"""The patch discriminator: which pixels a score sees, and that it is any real number."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from allfocus.train.models.discriminators import Config, PatchDiscriminator

SMALL = Config(features=(4, 4))


def test_three_convolutions_and_nothing_that_normalises_or_bounds() -> None:
    kinds = [type(m) for m in PatchDiscriminator(Config()).modules() if not list(m.children())]
    assert kinds == [nn.Conv2d, nn.LeakyReLU, nn.Conv2d, nn.LeakyReLU, nn.Conv2d]


def test_a_score_sees_22_pixels_around_its_square() -> None:
    net = PatchDiscriminator(SMALL).double()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.1)
    picture = torch.ones(1, 3, 64, 96, dtype=torch.float64, requires_grad=True)
    scores = net(picture)
    assert scores.shape == (1, 1, 8, 12)
    (gradient,) = torch.autograd.grad(scores[0, 0, 3, 5], [picture])
    rows, columns = gradient[0, 0].nonzero(as_tuple=True)
    assert (rows.min(), rows.max()) == (24 - 7, 31 + 7)
    assert (columns.min(), columns.max()) == (40 - 7, 47 + 7)


def test_the_gradient_penalty_of_wgan_gp_can_be_taken() -> None:
    """A gradient's gradient reaches the weights, and the pictures of a batch stay apart."""
    torch.manual_seed(0)
    net = PatchDiscriminator(SMALL)
    pictures = torch.rand(2, 3, 16, 16, requires_grad=True)
    scores = net(pictures)
    (gradient,) = torch.autograd.grad(scores.sum(), [pictures], create_graph=True)
    (gradient.flatten(1).norm(dim=1) - 1).square().mean().backward()
    weights = [p for name, p in net.named_parameters() if name.endswith("weight")]
    assert all(w.grad is not None and w.grad.abs().max() > 0 for w in weights)
    torch.testing.assert_close(net(pictures[:1]), scores[:1])


def test_a_wrong_size_or_config_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8, got 20x16"):
        PatchDiscriminator(SMALL)(torch.zeros(1, 3, 16, 20))
    with pytest.raises(ValueError, match=r"features: expected 2, each at least 1, got \(4, 0\)"):
        Config(features=(4, 0))
