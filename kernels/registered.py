"""The operators `torch.ops.allfocus.*`: implementations, shapes for tracing, and gradients.

Users call `ops.py`, which checks what it is given; here tensors fit together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from allfocus.kernels import reference, rowwise
from allfocus.kernels.library import Kernels, load
from allfocus.runtime.errors import UsageError

_CUDA_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@torch.library.custom_op("allfocus::isotropic_conv", mutates_args=())
def isotropic_conv(image: Tensor, seeds: Tensor, weights: Tensor) -> Tensor:
    """See `ops.isotropic_conv`."""
    if image.is_cuda:
        image, seeds, weights = (t.contiguous() for t in (image, seeds, weights))
        return _kernels(image).isotropic_conv(image, seeds, weights)
    return reference.isotropic_conv(image, seeds, weights).contiguous()


@torch.library.custom_op("allfocus::isotropic_conv_backward", mutates_args=(), device_types="cuda")
def isotropic_conv_backward(
    grad: Tensor, image: Tensor, seeds: Tensor, weights: Tensor, wanted: list[bool]
) -> list[Tensor]:
    """The wanted ones of the gradients to image, seeds and weights."""
    grad, image, seeds, weights = (t.contiguous() for t in (grad, image, seeds, weights))
    image_too, seeds_too, weights_too = wanted
    grads = _kernels(image).isotropic_conv_backward(
        grad, image, seeds, weights, (image_too, seeds_too, weights_too)
    )
    return [g for g in grads if g is not None]


@torch.library.custom_op("allfocus::sft_modulate", mutates_args=())
def sft_modulate(
    features: Tensor, gamma: Tensor, gamma_s: Tensor | None, beta: Tensor, slope: float
) -> Tensor:
    """See `reference.sft_modulate`."""
    layout = _layout(features)
    if features.is_cuda:
        features, gamma, beta = (_dense(t, layout) for t in (features, gamma, beta))
        gamma_s = None if gamma_s is None else gamma_s.contiguous()
        return _kernels(features).sft_modulate(features, gamma, gamma_s, beta, slope)
    return _dense(reference.sft_modulate(features, gamma, gamma_s, beta, slope), layout)


@torch.library.custom_op("allfocus::sft_modulate_backward", mutates_args=(), device_types="cuda")
def sft_modulate_backward(
    grad: Tensor,
    features: Tensor,
    gamma: Tensor,
    gamma_s: Tensor | None,
    beta: Tensor,
    slope: float,
    wanted: list[bool],
) -> list[Tensor]:
    """The wanted ones of the gradients to features, gamma, gamma_s and beta."""
    layout = _layout(features)
    grad, features, gamma, beta = (_dense(t, layout) for t in (grad, features, gamma, beta))
    gamma_s = None if gamma_s is None else gamma_s.contiguous()
    features_too, gamma_too, spatial_too, beta_too = wanted
    grads = _kernels(features).sft_modulate_backward(
        grad,
        features,
        gamma,
        gamma_s,
        beta,
        slope,
        (features_too, gamma_too, spatial_too, beta_too),
    )
    return [g for g in grads if g is not None]


@isotropic_conv.register_fake
def _(image: Tensor, seeds: Tensor, weights: Tensor) -> Tensor:  # noqa: ARG001
    return image.new_empty(image.shape)


@isotropic_conv_backward.register_fake
def _(
    grad: Tensor,  # noqa: ARG001
    image: Tensor,
    seeds: Tensor,
    weights: Tensor,
    wanted: list[bool],
) -> list[Tensor]:
    inputs = (image, seeds, weights)
    return [t.new_empty(t.shape) for t, want in zip(inputs, wanted, strict=True) if want]


@sft_modulate.register_fake
def _(
    features: Tensor,
    gamma: Tensor,  # noqa: ARG001
    gamma_s: Tensor | None,  # noqa: ARG001
    beta: Tensor,  # noqa: ARG001
    slope: float,  # noqa: ARG001
) -> Tensor:
    return torch.empty_like(features, memory_format=_layout(features))


@sft_modulate_backward.register_fake
def _(
    grad: Tensor,  # noqa: ARG001
    features: Tensor,
    gamma: Tensor,
    gamma_s: Tensor | None,
    beta: Tensor,
    slope: float,  # noqa: ARG001
    wanted: list[bool],
) -> list[Tensor]:
    layout = _layout(features)
    inputs = (features, gamma, gamma_s, beta)
    pairs = zip(inputs, wanted, strict=True)
    return [
        torch.empty_like(t, memory_format=layout) for t, want in pairs if want and t is not None
    ]


def _save_isotropic(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs)


def _isotropic_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    inputs, wanted = ctx.saved_tensors, list(ctx.needs_input_grad)
    if _by_kernel(grad):
        return _spread(isotropic_conv_backward(grad, *inputs, wanted), wanted)
    return _differentiate(reference.isotropic_conv, inputs, wanted, grad)


def _save_sft(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    *tensors, ctx.slope = inputs
    ctx.save_for_backward(*tensors)


def _sft_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    inputs, slope, wanted = ctx.saved_tensors, ctx.slope, list(ctx.needs_input_grad[:4])
    if _by_kernel(grad):
        grads = _spread(sft_modulate_backward(grad, *inputs, slope, wanted), wanted)
    else:
        grads = tuple(rowwise.sft_modulate_backward(grad, inputs, slope, wanted))
    return (*grads, None)


isotropic_conv.register_autograd(_isotropic_gradients, setup_context=_save_isotropic)
sft_modulate.register_autograd(_sft_gradients, setup_context=_save_sft)


def _by_kernel(grad: Tensor) -> bool:
    """Whether a gradient is a kernel's work: not where it will be differentiated again
    (`create_graph`), which is recorded here and which kernels have no formula for."""
    return grad.is_cuda and not torch.is_grad_enabled()


def _differentiate(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor | None],
    wanted: Sequence[bool],
    grad: Tensor,
) -> tuple[Tensor | None, ...]:
    """Gradients by PyTorch's own differentiation of the reference; None where not wanted. They can
    be differentiated again where `create_graph` was given, which turns recording on here.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = [
            t if t is None or again else t.detach().requires_grad_(want)
            for t, want in zip(inputs, wanted, strict=True)
        ]
        asked = [
            leaf for leaf, want in zip(leaves, wanted, strict=True) if want and leaf is not None
        ]
        found = torch.autograd.grad(function(*leaves), asked, grad, create_graph=again)
    return _spread(found, wanted)


def _spread(found: Sequence[Tensor], wanted: Sequence[bool]) -> tuple[Tensor | None, ...]:
    """Gradients at the places of the inputs that wanted one."""
    left = iter(found)
    return tuple(next(left) if want else None for want in wanted)


def _layout(features: Tensor) -> torch.memory_format:
    """channels_last for features that are so and not also NCHW, as a net of one channel is."""
    last = features.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last and not features.is_contiguous() else torch.contiguous_format


def _dense(tensor: Tensor, layout: torch.memory_format) -> Tensor:
    return tensor.contiguous(memory_format=layout)


def _kernels(tensor: Tensor) -> Kernels:
    if tensor.dtype not in _CUDA_DTYPES:
        raise UsageError(
            f"{tensor.dtype} on {tensor.device}: the CUDA kernels take float32, float16 and "
            "bfloat16; convert, or compute on the CPU"
        )
    return load(tensor.device)
