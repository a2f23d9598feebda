"""APL's discriminator: its layers, its one size, and that it learns to tell blurred from clear."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from allfocus.runtime.errors import UsageError
from allfocus.train.models.apl_discriminator import Config, Discriminator
from allfocus.train.models.count import count_macs, count_parameters

SMALL = Config(side=16, widths=(4, 8), convs=(1, 2), hidden=(8, 4))


def test_costs_what_the_layers_add_up_to() -> None:
    """The paper gives neither the fully connected layers' widths nor any count."""
    with torch.device("meta"):
        net = Discriminator(Config())
    pairs = [(3, 64, 160), (64, 64, 160), (64, 128, 80), (128, 128, 80), (128, 256, 40)]
    pairs += [(256, 256, 40)] * 2
    full = [(256 * 20 * 20, 256), (256, 256), (256, 1)]
    parameters = sum(9 * i * o + o for i, o, _ in pairs) + sum(i * o + o for i, o in full)
    macs = sum(9 * i * o * side**2 for i, o, side in pairs) + sum(i * o for i, o in full)
    image = torch.zeros(1, 3, 160, 160, device="meta")
    assert count_parameters(net) == parameters == 28_016_193
    assert count_macs(net, image) == macs


def test_a_picture_gives_one_number() -> None:
    net = Discriminator(SMALL)
    images = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        together = net(images)
        torch.testing.assert_close(together[:1], net(images[:1]))
    assert together.shape == (3, 1)


@pytest.mark.parametrize("shape", [(1, 3, 16, 24), (1, 3, 32, 32), (1, 1, 16, 16), (3, 16, 16)])
def test_another_size_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"expected pictures \[N, 3, 16, 16\], got \["):
        Discriminator(SMALL)(torch.zeros(shape))


def test_it_learns_to_tell_blurred_from_clear() -> None:
    torch.manual_seed(0)
    net = Discriminator(SMALL)
    clear = torch.rand(8, 3, 16, 16)
    images = torch.cat((clear, F.avg_pool2d(clear, 3, 1, 1)))
    truth = torch.cat((torch.ones(8, 1), torch.zeros(8, 1)))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(100):
        loss = F.binary_cross_entropy_with_logits(net(images), truth)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
        optimizer.step()
    assert bool(((net(images) > 0) == (truth > 0.5)).all())


def test_every_pixel_gets_a_gradient() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 16, 16, requires_grad=True)
    Discriminator(SMALL)(image).sum().backward()
    assert image.grad is not None
    assert bool((image.grad != 0).all())


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"side": 100}, "side: expected a multiple of 8 pixels, got 100"),
        ({"side": 0}, "side: expected a multiple of 8 pixels, got 0"),
        ({"widths": ()}, r"widths: expected 1 or more, each at least 1, got \(\)"),
        ({"convs": (2, 2)}, "convs: expected 3 numbers, one for each of the widths"),
        ({"hidden": (8,)}, "hidden: expected 2 widths, each at least 1"),
    ],
)
def test_a_wrong_config_says_which_value(changed: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Config(**changed)  # type: ignore[arg-type]


def test_an_unknown_config_key_is_refused() -> None:
    with pytest.raises(TypeError, match="size"):
        Config(size=160)  # type: ignore[call-arg]
