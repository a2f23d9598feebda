"""What the ONNX functions compute: kernels/reference.py, in ONNX Runtime."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from isotropic_cases import Case
from onnx import TensorProto, shape_inference
from onnx.inliner import inline_local_functions
from onnx_calls import CHANNELS, ISOTROPIC, SPATIAL, Array, calling, run, session, started
from torch import Tensor

from allfocus.kernels import reference

TYPES = {torch.float32: TensorProto.FLOAT, torch.float16: TensorProto.FLOAT16}


def isotropic(case: Case, dtype: torch.dtype = torch.float32) -> tuple[Array, Array]:
    """What the function and what the reference, in float64, make of the same inputs."""
    tensors = case.tensors(dtype)
    running = session(f"IsotropicConv_{case.levels}", ISOTROPIC, TYPES[dtype])
    expected = reference.isotropic_conv(*(t.double() for t in tensors))
    return run(running, ISOTROPIC, tensors), expected.numpy()


def assert_equal(found: Array, expected: Array, tolerance: float = 1e-5) -> None:
    """Within `tolerance` of the largest value."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("levels", range(2, 10))
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_isotropic_conv_is_the_reference(levels: int, channels: int) -> None:
    assert_equal(*isotropic(Case(n=2, channels=channels, levels=levels, height=13, width=17)))


@settings(max_examples=60)
@given(
    st.builds(
        Case,
        n=st.integers(1, 3),
        channels=st.integers(1, 5),
        height=st.integers(1, 20),
        width=st.integers(1, 20),
        levels=st.sampled_from([2, 3, 8]),
        scale=st.sampled_from([0.0, 1e-3, 1.0, 10.0]),
        seed=st.integers(0, 1000),
    )
)
def test_isotropic_conv_of_any_size(case: Case) -> None:
    assert_equal(*isotropic(case))


@pytest.mark.parametrize("opset", [18, 19, 21, 22])
def test_functions_follow_the_models_opset(opset: int) -> None:
    """torch's exporter chooses it, and each release its own."""
    case = Case(levels=3)
    model = calling("IsotropicConv_3", ISOTROPIC, opset=opset)
    inlined = inline_local_functions(model)
    assert {node.domain for node in inlined.graph.node} == {""}
    expected = reference.isotropic_conv(*(t.double() for t in case.tensors())).numpy()
    for form in (model, inlined):
        assert_equal(run(started(form), ISOTROPIC, case.tensors()), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3)])
def test_images_smaller_than_the_kernel(size: tuple[int, int]) -> None:
    assert_equal(*isotropic(Case(n=2, height=size[0], width=size[1])))


@pytest.mark.parametrize("scale", [300.0, 1e6, 1e30])
def test_large_seeds_neither_overflow_nor_vanish(scale: float) -> None:
    """exp(300) is beyond float32: each level's largest value is subtracted first."""
    tensors = Case(scale=scale).tensors()
    found = run(session("IsotropicConv_8", ISOTROPIC, TensorProto.FLOAT), ISOTROPIC, tensors)
    assert np.isfinite(found).all()
    # At this size the rounding of the seeds decides, so the reference computes in float32 too.
    assert_equal(found, reference.isotropic_conv(*tensors).numpy(), 1e-3 if scale > 300 else 1e-4)


@pytest.mark.parametrize("levels", [2, 3, 8])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_isotropic_conv_in_float16(levels: int, scale: float) -> None:
    found, expected = isotropic(Case(n=2, levels=levels, scale=scale), torch.float16)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, rtol=2**-10, atol=1e-5)


SFT_VARIANTS = [
    (spatial, slope, full_gamma, full_beta)
    for spatial, slope, full_gamma, full_beta in product(
        (False, True), (1.0, 0.0, 0.2, -0.5), (False, True), (False, True)
    )
]


def sft_tensors(
    spatial: bool, full_gamma: bool, full_beta: bool, size: tuple[int, ...], dtype: torch.dtype
) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(7)
    n, c, _, _ = size
    shapes = [size, size if full_gamma else (n, c, 1, 1)]
    shapes += [(n, 1, *size[2:])] if spatial else []
    shapes += [size if full_beta else (n, c, 1, 1)]
    return tuple(torch.randn(shape, generator=generator).to(dtype) for shape in shapes)


def sft_name(spatial: bool, slope: float) -> str:
    activation = {1.0: "", 0.0: "_relu"}.get(slope, "_leaky")
    return f"SftModulate{'_spatial' if spatial else ''}{activation}"


@pytest.mark.parametrize(("spatial", "slope", "full_gamma", "full_beta"), SFT_VARIANTS)
@pytest.mark.parametrize("dtype", TYPES)
def test_sft_modulate_is_the_reference(
    spatial: bool, slope: float, full_gamma: bool, full_beta: bool, dtype: torch.dtype
) -> None:
    names = SPATIAL if spatial else CHANNELS
    running = session(sft_name(spatial, slope), names, TYPES[dtype], slope)
    for size in ((1, 1, 1, 1), (2, 3, 5, 7), (1, 5, 1, 9), (3, 8, 6, 1)):
        tensors = sft_tensors(spatial, full_gamma, full_beta, size, dtype)
        features, gamma, *middle, beta = (t.double() for t in tensors)
        expected = reference.sft_modulate(
            features, gamma, middle[0] if spatial else None, beta, slope
        )
        found = run(running, names, tensors)
        rounding = 2**-10 if dtype == torch.float16 else 1e-6
        np.testing.assert_allclose(found, expected.numpy(), rtol=rounding, atol=1e-6)


def test_not_a_number_stays_in_its_pixel() -> None:
    image, seeds, weights = Case(height=7, width=8).tensors()
    image = image.abs()  # or infinities of both signs would meet
    seeds[0, 3, 1, 2] = torch.nan
    seeds[0, 4, 5, 5] = torch.inf
    weights[0, 2, 3, 4] = -torch.inf
    running = session("IsotropicConv_8", ISOTROPIC, TensorProto.FLOAT)
    found = run(running, ISOTROPIC, (image, seeds, weights))
    expected = reference.isotropic_conv(image, seeds, weights).numpy()
    assert np.isnan(expected).any()
    assert np.isinf(expected).any()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_infinity_in_the_image_stays_within_the_kernels_reach() -> None:
    image, seeds, weights = Case(height=20, width=20, levels=3).tensors()
    image[0, 0, 10, 10] = torch.inf
    running = session("IsotropicConv_3", ISOTROPIC, TensorProto.FLOAT)
    found = run(running, ISOTROPIC, (image, seeds, weights))
    reached = ~np.isfinite(found)
    assert reached[0, 0, 8:13, 8:13].all()
    assert reached.sum() == 25


def test_no_tensor_is_larger_than_one_levels_kernel() -> None:
    """Memory: at 600x400 and 8 levels, 36 planes of float32 at once, 34.6 MB."""
    size = (400, 600)
    shapes = {"image": [1, 3, *size], "seeds": [1, 35, *size], "weights": [1, 8, *size]}
    model = inline_local_functions(calling("IsotropicConv_8", ISOTROPIC, shapes=shapes))
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    found = {v.name: [d.dim_value for d in _dims(v)] for v in inferred.graph.value_info}
    assert len(found) == sum(len(n.output) for n in model.graph.node) - 1  # all but the result
    planes = [np.prod(shape) / np.prod(size) for shape in found.values()]
    assert max(planes) == 36
    assert planes.count(36) == 4  # of the largest level alone


def _dims(value: onnx.ValueInfoProto) -> Any:
    return value.type.tensor_type.shape.dim


@pytest.mark.parametrize(
    ("name", "inputs"), [("IsotropicConv_8", ISOTROPIC), ("SftModulate_spatial_leaky", SPATIAL)]
)
def test_half_types_are_computed_in_float32(name: str, inputs: tuple[str, ...]) -> None:
    slope = {"slope": 0.2} if name.startswith("Sft") else {}
    model = inline_local_functions(calling(name, inputs, TensorProto.FLOAT16, **slope))
    inferred = shape_inference.infer_shapes(model, strict_mode=True)
    kinds = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    casts = [n for n in model.graph.node if n.op_type == "Cast"]
    assert [c.input[0] for c in casts] == list(inputs)
    assert set(kinds.values()) - {TensorProto.INT64} == {TensorProto.FLOAT}
    assert model.graph.node[-1].op_type == "CastLike"
