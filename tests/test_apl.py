"""APL, both nets as one: eq. 4 and 5, the map's direction, tiles with the picture's context."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from apl_layers import layer, layers, picture
from torch import Tensor, nn

from allfocus.export.half import run_in_half
from allfocus.runtime.errors import CheckpointError
from allfocus.train import checkpoint
from allfocus.train.models import apl, build
from allfocus.train.models.apl import CONFIGS, Apl, Config, Ufat
from allfocus.train.models.count import count_macs, count_parameters

TINY = CONFIGS["apl-tiny"]


def drawn(config: Config = TINY) -> Apl:
    """A net with random weights and running statistics in every layer, in float64."""
    torch.manual_seed(0)
    net = Apl(config).double().eval()
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand_like(tensor))
            elif tensor.is_floating_point():
                tensor.add_(0.2 * torch.randn_like(tensor))
    return net


def dense(inputs: int, outputs: int, positions: int, side: int) -> tuple[int, int]:
    """Parameters and MACs of a convolution with bias."""
    weights = side**2 * inputs * outputs
    return weights + outputs, weights * positions


def restorer_layers(config: Config, pixels: int) -> list[tuple[int, int]]:
    """G_sr drawn again; a UFAT layer's shared convolutions run on I_f and on I_df."""
    fold, width = config.restorer_fold, config.features
    channels, here = 3 * fold**2, pixels // fold**2
    conv = partial(layer, norm=config.norm)
    ufat = [dense(channels, width, 2 * here // 4, 3), dense(width, width, 2 * here // 16, 3)]
    ufat += 2 * [dense(2 * width, width, 1, 1), dense(width, width, 1, 1)]
    block = 3 * [conv(width, width, here), *ufat]
    return [conv(channels, width, here), *config.blocks * block, dense(width, channels, here, 3)]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("apl", 17_858_951), ("apl-lite", 7_114_612), ("apl-tiny", 10_630)],
)
def test_costs_what_the_layers_add_up_to(name: str, parameters: int) -> None:
    """The paper gives neither parameters nor operations to compare with."""
    with torch.device("meta"):
        net = build(name)
    config, size = CONFIGS[name], (320, 640)
    rows = layers(config.detect, 320 * 640) + restorer_layers(config, 320 * 640)
    image = torch.zeros(1, 3, *size, device="meta")
    assert count_parameters(net) == sum(p for p, _ in rows) == parameters
    assert count_macs(net, image) == sum(m for _, m in rows)


def test_lite_costs_at_most_an_eighth() -> None:
    image = torch.zeros(1, 3, 320, 640, device="meta")
    with torch.device("meta"):
        full, lite = (count_macs(build(name), image) for name in ("apl", "apl-lite"))
    assert 8 * lite <= full


@pytest.mark.parametrize("name", ["apl-tiny", "apl-lite"])
def test_a_new_net_returns_its_input(name: str) -> None:
    image = picture(16, 32)
    with torch.no_grad():
        sharp, focus = build(name).eval()(image)
    assert torch.equal(sharp, image)
    assert focus.shape == (1, 1, 16, 32)


@pytest.mark.parametrize(("fold", "restorer_fold"), [(1, 1), (2, 2), (1, 4)])
def test_what_is_in_focus_stays_as_it_is(fold: int, restorer_fold: int) -> None:
    """1 is in focus: there the input comes out, exactly; 0 is not: there the net deblurs."""
    net = drawn(replace(TINY, fold=fold, restorer_fold=restorer_fold))
    image = picture(16, 24).double()
    focus = torch.ones(1, 1, 16, 24, dtype=torch.float64)
    focus[..., 12:] = 0
    with torch.no_grad():
        sharp = net.restore(image, focus, net.restorer.context(image, focus))
        same = net.restore(image, torch.ones_like(focus), torch.rand(1, net.context, 1, 1).double())
    assert torch.equal(same, image)
    assert torch.equal(sharp[..., :12], image[..., :12])
    assert bool((sharp[..., 12:] != image[..., 12:]).all())


def test_the_output_is_the_deblurred_picture_outside_focus_plus_what_is_in_focus() -> None:
    """`D (1 - M) + I_f`, where D is what the last convolution gives plus I_f + I_df."""
    net = drawn()
    image, focus = picture(8, 12).double(), picture(8, 12)[:, :1].double()
    residuals: list[Tensor] = []
    net.restorer.tail.register_forward_hook(lambda _, __, out: residuals.append(out))
    with torch.no_grad():
        sharp = net.restore(image, focus, net.restorer.context(image, focus))
    deblurred = residuals[0] + focus * image + (1 - focus) * image
    torch.testing.assert_close(sharp, deblurred * (1 - focus) + focus * image)
    assert residuals[0].abs().max() > 0.01


def test_only_what_is_out_of_focus_is_deblurred() -> None:
    """The features are those of I_df: pixels in focus reach the rest through the context alone."""
    net = drawn()
    image, other = picture(16, 16).double(), picture(16, 16).double().flip(3)
    focus = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    focus[..., :8] = 1
    other[..., 8:] = image[..., 8:]
    with torch.no_grad():
        one, two = (net.restorer.context(picture, focus) for picture in (image, other))
        sharp = net.restore(image, focus, one)
        assert torch.equal(net.restore(other, focus, one)[..., 8:], sharp[..., 8:])
        assert (net.restore(image, focus, two) - sharp).abs().max() > 1e-6  # the reference counts


def test_ufat_is_eq_5_through_the_kernels_channel_form(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[tuple[int, ...], object, tuple[int, ...], str]] = []

    def recorded(features: Tensor, gamma: Tensor, gamma_s: Tensor | None, beta: Tensor, **options):  # type: ignore[no-untyped-def]
        calls.append((tuple(gamma.shape), gamma_s, tuple(beta.shape), options["activation"]))
        return original(features, gamma, gamma_s, beta, **options)

    original = apl.sft_modulate
    monkeypatch.setattr(apl, "sft_modulate", recorded)
    net = drawn()
    with torch.no_grad():
        net(picture(8, 12).double())
    vector = ((1, 8, 1, 1), None, (1, 8, 1, 1))
    assert calls == [(*vector, "leaky_relu"), (*vector, "leaky_relu"), (*vector, "none")]


def test_ufat_scales_and_shifts_channels() -> None:
    torch.manual_seed(0)
    ufat = Ufat(3, 4).double()
    features, focused, rest = (torch.randn(2, c, 8, 8).double() for c in (4, 3, 3))
    with torch.no_grad():
        context = ufat.context(focused, rest)
        means = [ufat.shared(part).mean((2, 3)) for part in (focused, rest)]
        torch.testing.assert_close(context[..., 0, 0], torch.cat(means, dim=1))
        eta, beta = ufat.eta(context), ufat.beta(context)
        expected = eta * features + beta
        torch.testing.assert_close(ufat(features, context, "none"), expected)
        leaky = F.leaky_relu(expected, 0.2)
        torch.testing.assert_close(ufat(features, context, "leaky_relu"), leaky)
    assert eta.shape == beta.shape == (2, 4, 1, 1)
    assert 0.7 < float(eta.min()) < float(eta.max()) < 1  # a new layer hardly scales
    assert 0 < float(beta.min()) < float(beta.max()) < 0.3


@pytest.mark.parametrize("name", ["apl-tiny", "apl-lite"])
def test_a_tile_with_its_halo_and_the_pictures_context_equals_the_whole(name: str) -> None:
    thin = replace(CONFIGS[name], widths=(4,) * len(CONFIGS[name].widths), features=4, blocks=1)
    net = drawn(thin)
    step = net.multiple
    margin = -(-net.halo // step) * step
    image = picture(4 * step + 2 * margin, 2 * step).double()
    core = slice(margin + step, margin + 2 * step)
    part = image[:, :, core.start - margin : core.stop + margin]
    with torch.no_grad():
        whole = net(image)[0]
        focus, context = net.estimate(image)
        tile = net.restore(part, net.estimate(part)[0], context)
        given = net.restore(part, focus[:, :, core.start - margin : core.stop + margin], context)
        alone = net(part)[0]
    expected = whole[:, :, core]
    torch.testing.assert_close(tile[:, :, margin:-margin], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(given[:, :, margin:-margin], expected, rtol=0, atol=1e-12)
    assert (alone[:, :, margin:-margin] - expected).abs().max() > 1e-9  # the context is needed
    assert net.global_context


def test_the_context_is_every_layers_own() -> None:
    """Changing one layer's shared convolutions changes its own part of the context, no other."""
    net = drawn(replace(TINY, blocks=2))
    image = picture(8, 8).double()
    with torch.no_grad():
        focus, before = net.estimate(image)
        ufat = net.get_submodule("restorer.blocks.1.ufats.0")
        assert isinstance(ufat, Ufat)
        ufat.shared[0].weight += 1.0  # type: ignore[operator]
        changed = (net.restorer.context(image, focus) != before)[0, :, 0, 0].nonzero()[:, 0]
    assert net.context == before.shape[1] == 6 * 16
    assert changed.min() >= 3 * 16  # the fourth of six
    assert changed.max() < 4 * 16


def test_in_use_a_picture_does_not_depend_on_its_batch() -> None:
    net, images = drawn(), picture(16, 16, batch=3).double()
    with torch.no_grad():
        together, alone = net(images), net(images[:1])
    for of_all, of_one in zip(together, alone, strict=True):
        torch.testing.assert_close(of_all[:1], of_one, rtol=0, atol=1e-12)


def test_half_precision_does_not_overflow_in_the_means() -> None:
    """65,536 values of 100 are beyond float16 when they are summed, their mean is not."""
    large = torch.full((1, 1, 256, 256), 100.0, dtype=torch.float16)
    assert float(apl._mean(large)) == 100
    net, _ = checkpoint.random("apl-tiny", 0)
    image = picture(32, 32)
    with torch.no_grad():
        sharp, _ = net.eval()(image)
    assert (run_in_half(net, "whole", [image])[0] - sharp).abs().max() < 5e-3


def test_a_step_of_training_reaches_every_parameter_and_lowers_the_loss() -> None:
    net, _ = checkpoint.random("apl-tiny", 0)  # a new net's residual is 0, and hides all before it
    net.train()
    image, target = picture(16, 16, batch=2), picture(16, 16, batch=2).flip(0)
    optimizer = torch.optim.Adam(net.parameters(), 2e-4)
    losses = []
    for _ in range(2):
        sharp, focus = net(image)
        loss = (sharp - target).abs().mean() + (focus - target[:, :1]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[1] < losses[0]


def test_a_new_net_begins_to_train() -> None:
    """The first step moves the last convolution alone; from the second on, all of it learns."""
    torch.manual_seed(0)
    net = Apl(TINY).train()
    optimizer = torch.optim.Adam(net.parameters(), 2e-4)
    for _ in range(2):
        optimizer.zero_grad()
        (net(picture(16, 16, batch=2))[0] - 0.5).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


def test_weights_come_back_with_their_running_statistics(tmp_path: Path) -> None:
    net, _ = checkpoint.random("apl-tiny", 0)
    net.train()(picture(16, 16, batch=2))
    counter = net.get_buffer("restorer.blocks.0.norms.0.num_batches_tracked")
    counter.fill_(100_000)  # more than float16 holds
    path = tmp_path / "weights.safetensors"
    checkpoint.save(path, "apl-tiny", net, weights="random", license="none")
    loaded, _ = checkpoint.load("apl-tiny", path)
    for key, value in net.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=1e-3, atol=1e-4)
        assert loaded.state_dict()[key].dtype == value.dtype


def test_weights_of_the_detection_net_alone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    net, _ = checkpoint.random("apl-detect-tiny", 0)
    checkpoint.save(path, "apl-detect-tiny", net, weights="", license="")
    with pytest.raises(CheckpointError, match="weights of 'apl-detect-tiny', not of 'apl-tiny'"):
        checkpoint.load("apl-tiny", path)


def test_the_detection_net_is_the_pairs_first_half() -> None:
    pair, _ = checkpoint.random("apl-tiny", 0)
    alone = build("apl-detect-tiny")
    alone.load_state_dict(pair.get_submodule("detector").state_dict())
    with torch.no_grad():
        expected = pair.eval()(picture(8, 12))[1]
        assert torch.equal(alone.eval()(picture(8, 12)), expected)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"features": 0}, "features: expected at least 1, got 0"),
        ({"blocks": -1}, "blocks: expected at least 1, got -1"),
        ({"convs": (1, 1)}, "convs: expected 4 numbers, one for each of the widths"),
        ({"widths": (0, 8, 8, 8)}, "widths: expected 2 or more, each at least 1"),
        ({"fold": 4}, "fold: expected 1 or 2, got 4"),
        ({"restorer_fold": 3}, "restorer_fold: expected 1, 2 or 4, got 3"),
    ],
)
def test_a_wrong_config_says_which_value(changed: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Config(**changed)  # type: ignore[arg-type]


def test_a_net_without_normalisation_has_biases_and_no_statistics() -> None:
    net = Apl(replace(TINY, norm=False))
    names = {name.rpartition(".")[2] for name in net.state_dict()}
    assert names == {"weight", "bias"}
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert all(conv.bias is not None for conv in convs)
    assert net.halos == Apl(TINY).halos


def test_an_unknown_config_key_is_refused() -> None:
    with pytest.raises(TypeError, match="depth"):
        Config(depth=3)  # type: ignore[call-arg]
