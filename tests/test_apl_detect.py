"""APL's detection net: what it costs, what it sees, how it starts and trains."""

from __future__ import annotations

import pytest
import torch
from apl_layers import layers, picture
from torch import nn

from allfocus.train import checkpoint, losses
from allfocus.train.models import build
from allfocus.train.models.apl_detect import CONFIGS, AplDetect, Config, Normalise, doubled, seen
from allfocus.train.models.base import Sigmoid
from allfocus.train.models.count import count_macs, count_parameters

TINY = CONFIGS["apl-detect-tiny"]


@pytest.mark.parametrize(
    ("name", "parameters"), [("apl-detect", 15_465_604), ("apl-detect-tiny", 4_731)]
)
def test_costs_what_the_layers_add_up_to(name: str, parameters: int) -> None:
    """The paper gives neither parameters nor operations to compare with."""
    with torch.device("meta"):
        net = build(name)
    drawn = layers(CONFIGS[name], 400 * 600)
    image = torch.zeros(1, 3, 400, 600, device="meta")
    assert count_parameters(net) == sum(p for p, _ in drawn) == parameters
    assert count_macs(net, image) == sum(m for _, m in drawn)


def test_its_encoder_is_the_first_four_blocks_of_vgg16() -> None:
    with torch.device("meta"):
        net = AplDetect(Config())
    shapes = [tuple(p.shape) for n, p in net.encoder.named_parameters() if p.dim() == 4]
    pairs = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
    pairs += [(256, 512), (512, 512), (512, 512)]
    assert shapes == [(outputs, inputs, 3, 3) for inputs, outputs in pairs]


def test_its_map_lies_between_0_and_1_at_the_pictures_size() -> None:
    net, _ = checkpoint.random("apl-detect-tiny", 0)
    with torch.no_grad():
        focus = net.eval()(10 * picture(12, 20) - 5)
    assert focus.shape == (1, 1, 12, 20)
    assert 0 <= float(focus.min()) < float(focus.max()) <= 1


def test_a_map_grows_with_its_logits() -> None:
    """1 is in focus: a higher output of the last convolution is more focus."""
    net = AplDetect(TINY).eval()
    with torch.no_grad():
        low = net(picture(8, 8))
        for head in net.heads:
            head.bias += 1.0  # type: ignore[operator]
        assert bool((net(picture(8, 8)) > low).all())


def test_every_scale_has_a_say() -> None:
    net = AplDetect(TINY).eval()
    image = picture(16, 16)
    with torch.no_grad():
        before = net(image)
        for head in net.heads:
            assert isinstance(head, nn.Conv2d)
            kept = head.weight.clone()
            nn.init.zeros_(head.weight)
            assert (net(image) - before).abs().max() > 1e-3
            head.weight.copy_(kept)


def test_doubling_is_the_same_for_a_part() -> None:
    """With aligned corners it is not: the grid would hang on the whole picture's size."""
    plane = picture(12, 16)
    whole, part = doubled(plane), doubled(plane[:, :, 2:10])
    torch.testing.assert_close(part[:, :, 2:-2], whole[:, :, 6:18], rtol=0, atol=0)
    aligned = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    difference = aligned(plane[:, :, 2:10])[:, :, 2:-2] - aligned(plane)[:, :, 6:18]
    assert difference.abs().max() > 0.01


def test_pictures_are_normalised_as_for_imagenet() -> None:
    grey = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    assert float(Normalise()(grey).abs().max()) == 0
    above = grey + torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    torch.testing.assert_close(Normalise()(above), torch.ones(1, 3, 1, 1))
    assert not Normalise().state_dict()  # constants, not weights


@pytest.mark.parametrize("fold", [1, 2])
def test_a_range_sees_what_its_ends_see(fold: int) -> None:
    config = Config(widths=(2, 2, 2), convs=(1, 2, 1), fold=fold)
    for pixel in range(2 * config.multiple):
        first, last = seen(config, pixel, pixel + 3)
        assert first == seen(config, pixel, pixel)[0]
        assert last == seen(config, pixel + 3, pixel + 3)[1]


def test_in_use_a_picture_does_not_depend_on_its_batch() -> None:
    net, _ = checkpoint.random("apl-detect-tiny", 0)
    images = picture(16, 16, batch=3)
    with torch.no_grad():
        net.train()(images)  # running statistics that are not those of a new net
        net.eval()
        torch.testing.assert_close(net(images)[:1], net(images[:1]), rtol=0, atol=1e-6)


def test_a_step_of_training_reaches_every_parameter_and_lowers_the_loss() -> None:
    torch.manual_seed(0)
    net = build("apl-detect-tiny").train()
    image, prior = picture(16, 16, batch=2), (picture(16, 16, batch=2)[:, :1] > 0.5).float()
    optimizer = torch.optim.Adam(net.parameters(), 2e-4)
    losses = []
    for _ in range(2):
        loss = (net(image) - prior).abs().mean()  # eq. 7's second part
        optimizer.zero_grad()
        loss.backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[1] < losses[0]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"widths": (8,)}, r"widths: expected 2 or more, each at least 1, got \(8,\)"),
        ({"widths": (8, 0, 8, 8)}, "widths: expected 2 or more, each at least 1"),
        ({"convs": (2, 2, 0, 3)}, "convs: expected 2 or more, each at least 1"),
        ({"widths": (8, 8)}, r"convs: expected 2 numbers, one for each of the widths \(8, 8\)"),
        ({"fold": 3}, "fold: expected 1 or 2, got 3"),
    ],
)
def test_a_wrong_config_says_which_value(changed: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Config(**changed)  # type: ignore[arg-type]


def test_an_unknown_config_key_is_refused() -> None:
    with pytest.raises(TypeError, match="features"):
        Config(features=8)  # type: ignore[call-arg]


def test_what_is_wrong_and_sure_learns_in_bfloat16_too() -> None:
    """Rounded to 1, a map would give its logit no gradient at all."""
    logits = torch.tensor([6.5, 8.0, -12.0], dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        focus = Sigmoid()(logits)
    assert focus.dtype == torch.float32
    losses.cross_entropy(focus, torch.tensor([0.0, 0.0, 1.0])).backward()
    assert logits.grad is not None
    torch.testing.assert_close(
        3 * logits.grad.float(), torch.tensor([1.0, 1, -1]), atol=0.01, rtol=0
    )
    assert Sigmoid()(logits.detach()).dtype == torch.bfloat16  # a graph of half precision stays so
