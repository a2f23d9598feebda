"""Shapes, types and formats: what the TensorRT plugins answer while an engine is built."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from plugin_cases import ISOTROPIC, SFT, TYPES, described, made
from plugin_host import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    HWC,
    HWC8,
    INT8,
    LINEAR,
    Library,
    Plugin,
    Tensor,
)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("IsotropicConv", ISOTROPIC),
        ("IsotropicConv", ((-1, 3, -2, -3), (-1, 35, -2, -3), (-1, 8, -2, -3))),
        ("IsotropicConv", ((-1, -2, -3, -4), (-5, -6, -7, -8), (-9, -10, -11, -12))),
        ("IsotropicConv", ((1, 1, 1, 1), (1, 2, 1, 1), (1, 2, 1, 1))),
        *(("SftModulate", shapes) for shapes in SFT.values()),
        ("SftModulate", ((-1, 64, -2, -3), (-1, 64, 1, 1), (-1, 1, -2, -3), (-1, 64, -2, -3))),
        ("SftModulate", ((-1, -2, -3, -4), (-1, -2, -5, -6), (-7, -8, -9, -10))),
    ],
)
def test_the_output_has_the_shape_of_the_first_input(
    library: Library, name: str, inputs: Sequence[Sequence[int]]
) -> None:
    plugin = made(library, name)
    assert plugin.shape(*inputs) == list(inputs[0])
    given = [tuple(max(d, -1) for d in shape) for shape in inputs]  # as configurePlugin sees them
    assert plugin.configure(*described(given, FLOAT16)) == 0
    assert plugin.workspace(*described(given, FLOAT16)) == 0


@pytest.mark.parametrize(
    ("name", "inputs", "said"),
    [
        ("IsotropicConv", ISOTROPIC[:2], "2 inputs and 1 outputs; expected the inputs image, "),
        ("IsotropicConv", ((3, 5, 7), *ISOTROPIC[1:]), "input 0: shape [3, 5, 7]; expected"),
        (
            "IsotropicConv",
            ((2, 3, -1, 7), (2, 34, -1, 7), (2, 8, -1, 7)),
            "seeds: shape [2, 34, ?, 7]; expected [2, 35, ?, 7]",
        ),
        ("IsotropicConv", (ISOTROPIC[0], ISOTROPIC[1], (2, 4, 5, 8)), "weights: shape [2, 4, 5, 8"),
        ("IsotropicConv", ((1, 3, 5, 7), *ISOTROPIC[1:]), "expected [1, ?, 5, 7]"),
        ("IsotropicConv", (ISOTROPIC[0], (2, 2, 5, 7), (2, 1, 5, 7)), "expected 2 or more levels"),
        ("SftModulate", SFT["plain"][:2], "2 inputs and 1 outputs"),
        ("SftModulate", (*SFT["decomposed"], (2, 8, 5, 6)), "5 inputs and 1 outputs"),
        (
            "SftModulate",
            ((2, 8, 5, 6), (2, 8, 5, 1), (2, 8, 5, 6)),
            "gamma: shape [2, 8, 5, 1]; expected [2, 8, 1, 1] or [2, 8, 5, 6]",
        ),
        ("SftModulate", ((2, 8, 5, 6), (1, 8, 1, 1), (2, 8, 5, 6)), "gamma: shape [1, 8, 1, 1]"),
        ("SftModulate", ((2, 8, 5, 6), (2, 8, 1, 1), (2, 1, 5, 6)), "beta: shape [2, 1, 5, 6]"),
        (
            "SftModulate",
            ((2, 8, 5, 6), (2, 8, 1, 1), (2, 8, 5, 6), (2, 8, 5, 6)),
            "gamma_s: shape [2, 8, 5, 6]; expected [2, 1, 5, 6]",
        ),
    ],
)
def test_wrong_shapes_are_refused_in_every_phase(
    library: Library, name: str, inputs: Sequence[Sequence[int]], said: str
) -> None:
    plugin = made(library, name)
    assert plugin.shape(*inputs) is None
    assert said in library.log()
    assert plugin.configure(*described(inputs, FLOAT32)) != 0
    assert said in library.log()
    known = [tuple(5 if d < 0 else d for d in shape) for shape in inputs]
    assert plugin.shape_change(*described(known, FLOAT32)) != 0
    assert said.replace("?, 7", "5, 7") in library.log()


def test_the_type_of_the_output(library: Library) -> None:
    plugin = made(library, "IsotropicConv")
    for kind in TYPES:
        assert plugin.type(kind, kind, kind) == kind
    assert plugin.type(INT8, INT8, INT8) is None
    assert plugin.type(FLOAT16, FLOAT16, FLOAT32) is None
    assert "input 2 is float32, the first float16; expected image, seeds, wei" in library.log()


def accepted(plugin: Plugin, shapes: Sequence[Sequence[int]]) -> set[tuple[tuple[int, int], ...]]:
    """All combinations of (type, format) that the plugin takes, asked for as TensorRT does."""
    every = list(itertools.product(range(12), range(13)))
    found: list[tuple[tuple[int, int], ...]] = [()]
    for position, shape in enumerate((*shapes, shapes[0])):
        before = [
            [Tensor.of(s, *its) for s, its in zip(shapes, chosen, strict=False)] for chosen in found
        ]
        found = [
            (*chosen, its)
            for chosen, tensors in zip(found, before, strict=True)
            for its in every
            if plugin.supports(position, [*tensors, Tensor.of(shape, *its)], len(shapes))
        ]
    return set(found)


def test_the_formats_of_isotropic_conv(library: Library) -> None:
    plugin = made(library, "IsotropicConv")
    assert accepted(plugin, ISOTROPIC) == {((kind, LINEAR),) * 4 for kind in TYPES}


@pytest.mark.parametrize("channels", [8, 64, 3, 12, 1, -1])
@pytest.mark.parametrize("form", SFT)
def test_the_formats_of_sft_modulate(library: Library, form: str, channels: int) -> None:
    shapes = [(-1, 1 if s[1] == 1 else channels, *s[2:]) for s in SFT[form]]
    dense = channels > 0 and channels % 8 == 0  # else kHWC8 has padding
    expected = {
        *((kind, LINEAR) for kind in TYPES),
        (FLOAT32, HWC),
        *((kind, HWC8) for kind in (FLOAT16, BFLOAT16) if dense),
    }
    map_is_linear = {
        tuple((kind, LINEAR if form == "decomposed" and i == 2 else layout) for i in range(n))
        for kind, layout in expected
        for n in (len(shapes) + 1,)
    }
    assert accepted(made(library, "SftModulate"), shapes) == map_is_linear


@pytest.mark.parametrize("count", [2, 5])
def test_no_format_fits_another_number_of_inputs(library: Library, count: int) -> None:
    tensor = Tensor.of((1, 8, 4, 4))
    assert not made(library, "SftModulate").supports(0, [tensor], count)
