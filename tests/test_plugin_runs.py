"""The TensorRT plugins at run time, with the kernels run on the CPU; clones and stored fields."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from plugin_cases import (
    ISOTROPIC,
    SFT,
    TYPES,
    assert_close,
    described,
    made,
    run,
    sft_reference,
    values,
)
from plugin_host import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    HWC,
    HWC8,
    INT32,
    LINEAR,
    RUNTIME,
    Library,
    Tensor,
    slope,
)

from allfocus.kernels import reference


@pytest.mark.parametrize("kind", TYPES)
def test_isotropic_conv_computes(library: Library, kind: int) -> None:
    plugin = made(library, "IsotropicConv")
    tensors, inputs = described(ISOTROPIC, kind), values(ISOTROPIC, kind)
    assert plugin.shape_change(*tensors) == 0
    assert_close(run(plugin, tensors, inputs), reference.isotropic_conv(*inputs), kind)


@pytest.mark.parametrize("form", SFT)
@pytest.mark.parametrize(
    ("kind", "layout"),
    [*((kind, LINEAR) for kind in TYPES), (FLOAT32, HWC), (FLOAT16, HWC8), (BFLOAT16, HWC8)],
)
def test_sft_modulate_computes(library: Library, form: str, kind: int, layout: int) -> None:
    plugin = made(library, "SftModulate", slope(0.25))
    tensors, inputs = described(SFT[form], kind, layout), values(SFT[form], kind)
    assert plugin.shape_change(*tensors) == 0
    assert_close(run(plugin, tensors, inputs), sft_reference(inputs, 0.25), kind)


def test_one_plugin_takes_one_shape_after_the_other(library: Library) -> None:
    plugin = made(library, "SftModulate")
    for form in (*SFT, *SFT):  # 3 inputs, 4, 3, and again
        tensors, inputs = described(SFT[form], FLOAT32), values(SFT[form], FLOAT32)
        assert plugin.shape_change(*tensors) == 0
        assert_close(run(plugin, tensors, inputs), sft_reference(inputs, 1.0), FLOAT32)


def test_an_empty_tensor_is_nothing_to_do(library: Library) -> None:
    shapes = [(0, *shape[1:]) for shape in ISOTROPIC]
    plugin = made(library, "IsotropicConv")
    assert plugin.shape_change(*described(shapes, FLOAT32)) == 0
    assert plugin.enqueue(described(shapes, FLOAT32), [0, 0, 0], 0) == 0


def test_enqueue_says_why_it_failed(library: Library) -> None:
    plugin = made(library, "SftModulate")
    tensors = described(SFT["plain"], FLOAT16)
    assert plugin.enqueue(tensors, [0, 0, 0], 0) != 0
    assert "enqueue without shapes" in library.log()
    assert plugin.shape_change(*tensors) == 0
    assert plugin.enqueue(tensors, [0, 0, 0], 0) != 0  # null pointers: the launcher refuses them
    assert "not launched on float16 [2, 8, 5, 6] kLINEAR: CUDA error 1, inval" in library.log()


@pytest.mark.parametrize(
    ("position", "wrong", "said"),
    [
        (0, Tensor.of((2, 8, 5, 6), INT32), "input 0: type 3 [2, 8, 5, 6] kLINEAR"),
        (1, Tensor.of((2, 8, 5, 6), FLOAT16), "input 1: float16 [2, 8, 5, 6] kLINEAR beside float"),
        (2, Tensor.of((2, 8, 5, 6), FLOAT32, HWC), "input 2: float32 [2, 8, 5, 6] kHWC"),
        (3, Tensor.of((2, 8, 5, 6), BFLOAT16, HWC8), "output 0: bfloat16 [2, 8, 5, 6] kHWC8"),
        (2, Tensor.of((2, 8, -1, 6)), "input 2: float32 [2, 8, ?, 6]"),
        (3, Tensor.of((2, 8, 5, 7)), "output: shape [2, 8, 5, 7]; expected [2, 8, 5, 6]"),
        (3, Tensor.of((2, 8, 5)), "output: shape [2, 8, 5]; expected [2, 8, 5, 6]"),
    ],
)
def test_what_run_time_brings_is_checked(
    library: Library, position: int, wrong: Tensor, said: str
) -> None:
    plugin = made(library, "SftModulate")
    right = described(SFT["plain"], FLOAT32)
    assert plugin.shape_change(*right) == 0
    assert plugin.shape_change(*right[:position], wrong, *right[position + 1 :]) != 0
    assert said in library.log()
    assert plugin.enqueue(right, [0, 0, 0], 0) != 0
    assert "enqueue without shapes" in library.log()


def test_padded_channels_are_refused_at_run_time(library: Library) -> None:
    shapes = [(1, 12, 4, 4)] * 3
    plugin = made(library, "SftModulate")
    assert plugin.shape_change(*described(shapes, FLOAT16, HWC8)) != 0
    assert "input 0: float16 [1, 12, 4, 4] kHWC8" in library.log()


def test_a_plane_of_more_pixels_than_the_kernels_count_is_refused(library: Library) -> None:
    side = 1 << 16
    shapes = ((1, 1, side, side), (1, 2, side, side), (1, 2, side, side))
    assert made(library, "IsotropicConv").shape_change(*described(shapes, FLOAT32)) != 0
    assert "expected a plane of at most 2147483647 pixels" in library.log()


@pytest.mark.parametrize("name", ["IsotropicConv", "SftModulate"])
def test_what_an_engine_stores_makes_the_same_plugin(library: Library, name: str) -> None:
    given = (slope(0.125),) if name == "SftModulate" else ()
    stored = made(library, name, *given).clone().fields  # of a plugin that is gone
    fields = stored()
    assert [f.name for f in fields] == [b"version", b"slope"][: 1 + len(given)]
    again = made(library, name, *fields, phase=RUNTIME)
    if given:
        tensors, inputs = described(SFT["plain"], FLOAT32), values(SFT["plain"], FLOAT32)
        assert again.shape_change(*tensors) == 0
        assert_close(run(again, tensors, inputs), sft_reference(inputs, 0.125), FLOAT32)


def test_a_clone_stores_fields_of_its_own(library: Library) -> None:
    plugin = made(library, "SftModulate", slope(0.5))
    for clone in (plugin.clone(), plugin.attach()):
        assert clone.fields()[1].data != plugin.fields()[1].data


def test_clones_work_side_by_side(library: Library) -> None:
    """Contexts in threads of their own: clones of two plugins, each with its shapes and data."""
    plugins = {factor: made(library, "SftModulate", slope(factor)) for factor in (0.0, 0.5)}

    def context(number: int) -> None:
        factor, form = (0.0, 0.5)[number % 2], list(SFT)[number % 3]
        tensors, inputs = described(SFT[form], FLOAT32), values(SFT[form], FLOAT32)
        for _ in range(10):
            clone = plugins[factor].attach().clone()
            assert clone.shape(*SFT[form]) == list(SFT[form][0])
            assert clone.shape_change(*tensors) == 0
            assert_close(run(clone, tensors, inputs), sft_reference(inputs, factor), FLOAT32)
            again = made(library, "SftModulate", *clone.fields(), phase=RUNTIME)
            assert again.names() == clone.names()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(context, range(24)))
