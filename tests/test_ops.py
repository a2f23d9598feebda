"""The public operations: registration, gradients, and every input they must refuse by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from isotropic_cases import Case
from torch import Tensor

from allfocus.kernels import ops, reference, registered
from allfocus.runtime.errors import UsageError

SMALL = Case(n=2, channels=2, height=3, width=4, levels=3)
OPCHECKS = (
    "test_schema",
    "test_autograd_registration",
    "test_faketensor",
    "test_aot_dispatch_dynamic",
)


def sft_tensors(**changed: tuple[int, ...] | None) -> dict[str, Tensor | None]:
    shapes: dict[str, tuple[int, ...] | None] = {
        "features": (2, 3, 4, 5),
        "gamma_c": (2, 3, 1, 1),
        "gamma_s": (2, 1, 4, 5),
        "beta": (2, 3, 4, 5),
    }
    generator = torch.Generator().manual_seed(0)
    return {
        name: None
        if shape is None
        else torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in {**shapes, **changed}.items()
    }


def sft(tensors: dict[str, Tensor | None], **options: Any) -> Tensor:
    return ops.sft_modulate(**tensors, **options)  # type: ignore[arg-type]


def test_isotropic_conv_is_registered_as_torch_wants() -> None:
    inputs = [t.requires_grad_() for t in SMALL.tensors()]
    torch.library.opcheck(registered.isotropic_conv, inputs, test_utils=OPCHECKS)


@pytest.mark.parametrize("gamma_s", [(2, 1, 4, 5), None])
@pytest.mark.parametrize("slope", [1.0, 0.2])
def test_sft_modulate_is_registered_as_torch_wants(
    gamma_s: tuple[int, ...] | None, slope: float
) -> None:
    tensors = sft_tensors(gamma_s=gamma_s).values()
    inputs = [None if t is None else t.float().requires_grad_() for t in tensors]
    torch.library.opcheck(registered.sft_modulate, (*inputs, slope), test_utils=OPCHECKS)


def test_gradients_of_isotropic_conv() -> None:
    inputs = [t.requires_grad_() for t in SMALL.tensors(torch.float64)]
    assert torch.autograd.gradcheck(ops.isotropic_conv, inputs)
    assert torch.autograd.gradgradcheck(ops.isotropic_conv, inputs)


@pytest.mark.parametrize(
    "changed",
    [{}, {"gamma_s": None}, {"gamma_s": None, "beta": (2, 3, 1, 1)}, {"gamma_c": (2, 3, 4, 5)}],
    ids=["decomposed", "channel and full", "channel only", "plain"],
)
@pytest.mark.parametrize("activation", ["none", "leaky_relu"])
def test_gradients_of_sft_modulate(changed: dict[str, Any], activation: str) -> None:
    tensors = {
        name: None if t is None else t.requires_grad_()
        for name, t in sft_tensors(**changed).items()
    }

    def function(*given: Tensor) -> Tensor:
        names = (name for name, tensor in tensors.items() if tensor is not None)
        chosen = dict(zip(names, given, strict=True))
        return sft({"gamma_s": None, **chosen}, activation=activation)

    assert torch.autograd.gradcheck(function, [t for t in tensors.values() if t is not None])


class OnGpu(Tensor):
    """Says that it is on a GPU."""

    is_cuda = True


def test_a_gradient_that_is_differentiated_again_is_no_kernels_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grad = torch.ones(2)
    for on_gpu in (False, True):
        given = grad.as_subclass(OnGpu) if on_gpu else grad
        assert registered._by_kernel(given) is False  # as with create_graph
        with torch.no_grad():
            assert registered._by_kernel(given) is on_gpu

    calls = []

    def kernel(grad: Tensor, *inputs: Any) -> list[Tensor]:
        *tensors, wanted = inputs
        calls.append(wanted)
        found = registered._differentiate(reference.isotropic_conv, tensors, wanted, grad)
        return [each.detach() for each in found if each is not None]

    monkeypatch.setattr(registered, "isotropic_conv_backward", kernel)
    monkeypatch.setattr(registered, "_by_kernel", lambda _: not torch.is_grad_enabled())
    inputs = [t.requires_grad_() for t in SMALL.tensors(torch.float64)]
    ops.isotropic_conv(*inputs).sum().backward()
    assert calls == [[True, True, True]]
    assert torch.autograd.gradgradcheck(ops.isotropic_conv, inputs)


def test_only_what_wants_a_gradient_gets_one() -> None:
    image, seeds, weights = SMALL.tensors()
    seeds.requires_grad_()
    ops.isotropic_conv(image, seeds, weights).sum().backward()
    assert seeds.grad is not None
    assert image.grad is None
    assert weights.grad is None


@pytest.mark.parametrize("activation", ["none", "relu", "leaky_relu"])
def test_sft_modulate_keeps_the_layout(activation: str) -> None:
    tensors = sft_tensors()
    features = tensors["features"]
    assert features is not None
    flat = sft(tensors, activation=activation)
    last = {**tensors, "features": features.contiguous(memory_format=torch.channels_last)}
    out = sft(last, activation=activation)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert flat.is_contiguous()
    assert torch.equal(out, flat)


def test_strides_may_be_any() -> None:
    image, seeds, weights = SMALL.tensors()
    wanted = ops.isotropic_conv(image, seeds, weights)
    strided = [t.mT.contiguous().mT for t in (image, seeds, weights)]
    assert not strided[0].is_contiguous()
    assert torch.equal(ops.isotropic_conv(*strided), wanted)
    expanded = seeds[:, :1].expand(-1, 5, -1, -1)
    dense = ops.isotropic_conv(image, expanded.contiguous(), weights)
    assert torch.equal(ops.isotropic_conv(image, expanded, weights), dense)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_passes_through(value: float) -> None:
    tensors = sft_tensors()
    for name in tensors:
        changed = {k: None if t is None else t.clone() for k, t in tensors.items()}
        poisoned = changed[name]
        assert poisoned is not None
        poisoned[0, 0, 0, 0] = value
        out = sft(changed, activation="relu")
        wanted = torch.relu(
            changed["features"] * changed["gamma_c"] * changed["gamma_s"] + changed["beta"]
        )  # type: ignore[operator]
        torch.testing.assert_close(out, wanted, equal_nan=True)


def test_export_sees_the_operation() -> None:
    class Net(torch.nn.Module):
        def forward(self, image: Tensor, seeds: Tensor, weights: Tensor) -> Tensor:
            return ops.isotropic_conv(image, seeds, weights)

    program = torch.export.export(Net(), SMALL.tensors())
    assert "allfocus.isotropic_conv" in str(program.graph)


BAD_ISOTROPIC: dict[str, tuple[Any, str]] = {
    "rank": (lambda i, s, w: (i[0], s, w), r"image: shape \[2, 3, 4\]; expected 4 dimensions"),
    "batch": (
        lambda i, s, w: (i[:1], s, w),
        r"seeds: shape \[2, 5, 3, 4\]; expected \[1, 5, 3, 4\]",
    ),
    "size": (lambda i, s, w: (i, s, w[..., :3]), r"weights: shape .* expected \[2, 3, 3, 4\]"),
    "seeds": (lambda i, s, w: (i, s[:, :4], w), r"seeds: 4 channels; expected 2\+3"),
    "weights": (lambda i, s, w: (i, s, w[:, :2]), r"weights: 2 channels; 5 seeds belong to 3"),
    "dtypes": (lambda i, s, w: (i, s.double(), w), r"seeds is torch.float64, image is"),
    "integers": (lambda i, s, w: (i.int(), s, w), r"image: dtype torch.int32; expected a float"),
    "devices": (lambda i, s, w: (i, s.to("meta"), w), r"seeds is on meta, image is on cpu"),
    "empty": (lambda i, s, w: (i[..., :0], s, w), r"image: empty, shape \[2, 2, 3, 0\]"),
    "huge": (
        lambda i, s, w: (i[:, :, :1, :1].expand(2, 2, 2**15, 2**15), s, w),
        r"image: 4294967296 elements; at most 2147483647: split the batch",
    ),
}


@pytest.mark.parametrize("name", BAD_ISOTROPIC)
def test_bad_input_to_isotropic_conv(name: str) -> None:
    change, said = BAD_ISOTROPIC[name]
    with pytest.raises(UsageError, match=said):
        ops.isotropic_conv(*change(*SMALL.tensors()))


BAD_SFT: dict[str, tuple[dict[str, Any], str]] = {
    "rank": ({"features": (3, 4, 5)}, r"features: shape \[3, 4, 5\]; expected 4 dimensions"),
    "gamma": ({"gamma_c": (2, 4, 1, 1)}, r"gamma: shape .* expected \[2, 3, 1, 1\] or"),
    "beta": ({"beta": (1, 3, 4, 5)}, r"beta: shape \[1, 3, 4, 5\]; expected"),
    "gamma_s": ({"gamma_s": (2, 3, 4, 5)}, r"gamma_s: shape .* expected \[2, 1, 4, 5\]"),
    "empty": ({"features": (0, 3, 4, 5)}, r"features: empty"),
}


@pytest.mark.parametrize("name", BAD_SFT)
def test_bad_input_to_sft_modulate(name: str) -> None:
    changed, said = BAD_SFT[name]
    with pytest.raises(UsageError, match=said):
        sft(sft_tensors(**changed))


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(UsageError, match="activation 'gelu': expected one of none, relu"):
        sft(sft_tensors(), activation="gelu")


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_sides_of_one_pixel(size: tuple[int, int]) -> None:
    case = Case(height=size[0], width=size[1])
    assert torch.equal(
        ops.isotropic_conv(*case.tensors()), reference.isotropic_conv(*case.tensors())
    )
