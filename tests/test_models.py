"""The nets: their known figures, their halo measured on pixels, and what a wrong Config says."""

from __future__ import annotations

import inspect
import re
import sys

import pytest
import torch
from halos import measured
from thin import THIN
from torch import Tensor, nn

from allfocus.runtime.catalogue import MODELS
from allfocus.runtime.errors import UnknownModelError, UsageError
from allfocus.runtime.signature import KINDS, Phase
from allfocus.train.checkpoint import random
from allfocus.train.models import build, names, variant
from allfocus.train.models.base import describe
from allfocus.train.models.count import count_layers, count_macs, count_parameters
from allfocus.train.models.didanet import MAX_RADIUS, Config, DidANet

TINY = Config(map_features=8, map_blocks=1, features=16, blocks=2)
LOCAL = [name for name in THIN if not THIN[name]().context]  # nothing pooled


def test_the_registry_is_the_catalogue() -> None:
    assert set(names()) == set(MODELS)
    for name in names():
        assert variant(name).name == name


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownModelError, match="did you mean 'didanet-tiny'"):
        build("didanet-tine")


def _conv(inputs: int, outputs: int, positions: int) -> tuple[int, int]:
    """Parameters and MACs of a 3x3 convolution with bias at so many output positions."""
    return 9 * inputs * outputs + outputs, 9 * inputs * outputs * positions


def test_didanet_costs_what_the_papers_text_adds_up_to() -> None:
    half, quarter, full = 200 * 300, 100 * 150, 400 * 600
    layers = [_conv(3, 64, half), *[_conv(64, 64, quarter)] * 10, _conv(64, 1, quarter)]
    layers += [_conv(4, 128, full), *[_conv(128, 128, full)] * 25, _conv(128, 3, full)]
    net = build("didanet")
    assert count_parameters(net) == sum(p for p, _ in layers) == 4_069_444
    assert count_macs(net, torch.zeros(1, 3, 400, 600, device="meta")) == sum(m for _, m in layers)


def _systems() -> dict[str, list[str]]:
    """Of each module of nets, the names of its nets."""
    found: dict[str, list[str]] = {}
    for name in names():
        found.setdefault(type(build(name)).__module__, []).append(name)
    return found


def test_the_counts_that_the_modules_tell_are_those_of_their_nets() -> None:
    told = 0
    for module, nets in _systems().items():
        text = " ".join((sys.modules[module].__doc__ or "").split())
        counts = {f"{count_parameters(build(name)):,}" for name in nets}
        for number in re.findall(r"\b\d{1,3}(?:,\d{3}){1,2}(?= (?:parameters|and \d))", text):
            assert number in counts, f"{module}: {number}, counted {sorted(counts)}"
            told += 1
    assert told >= 10


def test_didanet_released_costs_what_the_public_codes_layers_add_up_to() -> None:
    # One 64->64 convolution fewer than SYSTEMS.md's 5.25 M and 1,259 GMAC; see test_flops.py.
    pixels = 400 * 600
    layers = [_conv(3, 64, pixels), *[_conv(64, 64, pixels)] * 9, _conv(64, 1, pixels)]
    layers += [_conv(4, 128, pixels), *[_conv(128, 128, pixels)] * 33, _conv(128, 3, pixels)]
    net = build("didanet-released")
    assert count_parameters(net) == sum(p for p, _ in layers) == 5_213_188
    assert count_macs(net, torch.zeros(1, 3, 400, 600, device="meta")) == sum(m for _, m in layers)


def test_the_spec_carries_the_counted_figures() -> None:
    net = build("didanet-tiny")
    spec = describe("didanet-tiny", net, version=1, weights="w", weights_sha256="0", license="l")
    assert spec.parameters == count_parameters(net)
    assert spec.macs_per_pixel * 96 * 64 == count_macs(net, torch.zeros(1, 3, 64, 96))
    assert (spec.multiple, spec.halo, spec.max_radius) == (4, net.halo, MAX_RADIUS)


def test_counting_leaves_the_net_as_it_was() -> None:
    net = build("didanet-tiny").train()
    rows = count_layers(net, torch.zeros(1, 3, 16, 16))
    assert len(rows) == 5 + 1 + 6 + 1
    assert net.training
    assert all(p.device.type == "cpu" for p in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(
    ("name", "phase"), [(name, phase) for name in MODELS for phase in MODELS[name].signatures]
)
def test_a_phase_takes_and_gives_what_the_catalogue_says(name: str, phase: Phase) -> None:
    net = THIN[name]().eval()
    size = 2 * net.multiple, 3 * net.multiple
    shapes = {"picture": (2, 3, *size), "plane": (2, 1, *size), "vector": (2, net.context, 1, 1)}
    signature = MODELS[name].signatures[phase]
    assert list(inspect.signature(net.phases()[phase]).parameters) == list(signature.inputs)
    with torch.no_grad():
        outputs = net.run(phase, *(torch.rand(shapes[KINDS[n]]) for n in signature.inputs))
    assert [o.shape for o in outputs] == [shapes[KINDS[n]] for n in signature.outputs]
    assert ("defocus" in signature.outputs) <= (net.max_radius > 0)


@pytest.mark.parametrize("name", MODELS)
def test_the_catalogue_names_the_nets_phases_and_multiple(name: str) -> None:
    net = THIN[name]()
    assert set(net.phases()) == set(MODELS[name].signatures) == set(net.halos)
    assert net.multiple == MODELS[name].multiple


@pytest.mark.parametrize(
    "name", [name for name, entry in MODELS.items() if "restore" in entry.signatures]
)
def test_phases_are_the_whole(name: str) -> None:
    tiny = next(t for t in MODELS if t.endswith("-tiny") and name.startswith(t[: -len("-tiny")]))
    net, _ = random(tiny, 0)
    net.eval()
    signatures = MODELS[name].signatures
    generator = torch.Generator().manual_seed(3)
    pictures = signatures["whole"].inputs
    known = {picture: torch.rand(1, 3, 32, 48, generator=generator) for picture in pictures}
    with torch.no_grad():
        outputs = net.run("whole", *known.values())
        whole = dict(zip(signatures["whole"].outputs, outputs, strict=True))
        for phase in ("estimate", "restore"):
            given = (known[n] for n in signatures[phase].inputs)
            known |= zip(signatures[phase].outputs, net.run(phase, *given), strict=True)  # type: ignore[arg-type]
    for output, expected in whole.items():
        assert torch.equal(known[output], expected)


@pytest.mark.parametrize("name", ["didanet", "didanet-lite", "sftnet-lite", "apl-lite"])
def test_restoring_is_cut_as_finely_as_it_says(name: str) -> None:
    """A part of the picture, its corner anywhere on the phase's own multiple."""
    net = THIN[name]().double().eval()
    generator = torch.Generator().manual_seed(4)
    net.draw(generator)
    step, halo, names = net.multiple_of("restore"), net.halos["restore"], MODELS[name].signatures
    assert net.multiple > step
    side = -(-2 * halo // net.multiple) * net.multiple
    image = torch.rand(1, 3, side, side, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        seen = zip(names["estimate"].outputs, net.run("estimate", image), strict=True)
        whole = {"image": image, **dict(seen)}
        part = {n: a if KINDS[n] == "vector" else a[..., step:, step:] for n, a in whole.items()}
        (of_whole,), (of_part,) = (
            net.run("restore", *(known[n] for n in names["restore"].inputs))
            for known in (whole, part)
        )
    kept = slice(halo, None)
    expected = of_whole[..., step:, step:][..., kept, kept]
    torch.testing.assert_close(of_part[..., kept, kept], expected, rtol=0, atol=1e-12)
    assert not torch.equal(of_part, of_whole[..., step:, step:])  # nearer to the edge it shows


def test_an_unknown_phase_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="no phase 'restore' in this net: known: whole"):
        build("jdrl-unet-tiny").run("restore", torch.zeros(1, 3, 4, 4))


def test_a_phase_without_its_vectors_says_what_it_takes() -> None:
    image, defocus = torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    with pytest.raises(UsageError, match="expected image, defocus, context, got 2 tensors"):
        build("sftnet-tiny").run("restore", image, defocus)


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("didanet")])
def test_a_new_didanet_returns_its_input(name: str) -> None:
    image = torch.rand(2, 3, 16, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        sharp, _ = build(name).eval()(image)
    torch.testing.assert_close(sharp, image, rtol=0, atol=0)


def test_blocks_not_yet_in_use_change_nothing_and_cost_nothing() -> None:
    net, _ = random("didanet-tiny", 0)
    assert isinstance(net, DidANet)
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    nn.init.zeros_(net.restorer.blocks[1].conv2.weight)  # type: ignore[union-attr, arg-type]
    nn.init.zeros_(net.restorer.blocks[1].conv2.bias)  # type: ignore[union-attr, arg-type]
    with torch.no_grad():
        whole = net(image)[0]
        all_macs = count_macs(net, image)
        net.restorer.depth = 1
        torch.testing.assert_close(net(image)[0], whole, rtol=0, atol=0)
    assert all_macs - count_macs(net, image) == 2 * 16 * 16 * 9 * 16 * 16


def test_the_released_nets_later_blocks_are_scaled() -> None:
    net = THIN["didanet-released"]()
    assert isinstance(net, DidANet)
    scales = [block.scale for block in net.restorer.blocks]  # type: ignore[union-attr]
    assert scales == [1.0] * 4 + [0.1] * 12


@pytest.mark.parametrize("name", MODELS)
def test_the_halo_of_each_phase_is_the_farthest_pixel_it_sees(name: str) -> None:
    with torch.device("meta"):
        real = build(name)
    net = THIN[name]()
    assert net.halos == real.halos  # depth alone decides
    assert measured(net, MODELS[name].signatures) == real.halos


@pytest.mark.parametrize("name", [name for name in LOCAL if name.endswith("-tiny")])
def test_a_tile_with_its_halo_equals_the_whole_image(name: str) -> None:
    net, _ = random(name, 0)
    net = net.double().eval()
    margin = -(-net.halo // net.multiple) * net.multiple
    size, generator = (16 + 2 * margin + 24, 40), torch.Generator().manual_seed(2)
    images = [
        torch.rand(1, 3, *size, dtype=torch.float64, generator=generator)
        for _ in MODELS[name].signatures["whole"].inputs
    ]
    core = slice(margin + 8, margin + 24)  # rows of the whole image
    with torch.no_grad():
        whole = net.run("whole", *images)
        tile = net.run(
            "whole", *(i[:, :, core.start - margin : core.stop + margin] for i in images)
        )
    for of_whole, of_tile in zip(whole, tile, strict=True):
        expected: Tensor = of_whole[:, :, core]
        torch.testing.assert_close(of_tile[:, :, margin:-margin], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("map_scale", 2, "map_scale: expected 1 or 4, got 2"),
        ("blocks", 0, "blocks: expected at least 1, got 0"),
        ("features", -1, "features: expected at least 1, got -1"),
        ("map_blocks", 0, "map_blocks: expected at least 1, got 0"),
        ("map_features", 0, "map_features: expected at least 1, got 0"),
    ],
)
def test_a_wrong_config_says_which_value(field: str, value: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Config(**{field: value})  # type: ignore[arg-type]


def test_an_unknown_config_key_is_refused() -> None:
    with pytest.raises(TypeError, match="depth"):
        Config(depth=3)  # type: ignore[call-arg]


def test_tiny_is_small_enough_for_every_test() -> None:
    assert count_parameters(DidANet(TINY)) == count_parameters(build("didanet-tiny")) < 20_000
