"""The library's C functions as methods on tensors: pointers, sizes, stream and memory."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from allfocus.kernels.architectures import listed
from allfocus.kernels.binding import check_launch, open_library
from allfocus.runtime.errors import UsageError

_DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
_NCHW, _NHWC = 0, 1


class Kernels:
    """A loaded library. Tensors are dense, of one dtype of three, on one device; ops.py sees to it.

    Work is queued on the current stream of the tensors' device; results and workspace come from
    torch's allocator. `path` may be a library compiled for the CPU, with tensors there: for tests.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = open_library(path)
        self.version: str = self._library.allfocus_version().decode()
        self.architectures = listed(self._library.allfocus_architectures().decode())

    def isotropic_conv(self, image: Tensor, seeds: Tensor, weights: Tensor) -> Tensor:
        """Shapes as in `reference.isotropic_conv`, NCHW."""
        out = torch.empty_like(image)
        inputs = _pointers(image, seeds, weights, out)
        self._launch("isotropic_conv", image, *inputs, *_isotropic_sizes(image, weights))
        return out

    def isotropic_conv_backward(
        self,
        grad_out: Tensor,
        image: Tensor,
        seeds: Tensor,
        weights: Tensor,
        wanted: tuple[bool, bool, bool],
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of image, seeds and weights; None where `wanted` is False."""
        if not any(wanted):
            return None, None, None
        kernels_too = wanted[1] or wanted[2]  # the library makes these two together
        made = _empty_like((image, seeds, weights), (wanted[0], kernels_too, kernels_too))
        n, _, height, width = image.shape
        space = self._workspace("isotropic_conv", image, n, height, width, weights.shape[1])
        inputs = _pointers(grad_out, image, seeds, weights, *made, space)
        sizes = _isotropic_sizes(image, weights)
        self._launch("isotropic_conv_backward", image, *inputs, *sizes)
        grads = [grad if asked else None for grad, asked in zip(made, wanted, strict=True)]
        return grads[0], grads[1], grads[2]

    def sft_modulate(
        self, features: Tensor, gamma: Tensor, gamma_s: Tensor | None, beta: Tensor, slope: float
    ) -> Tensor:
        """Shapes as in `reference.sft_modulate`; features' layout, NCHW or channels_last, is kept.

        gamma and beta, where of features' shape, have its layout too.
        """
        out = torch.empty_like(features)
        inputs = _sft_inputs(features, gamma, gamma_s, beta)
        self._launch(
            "sft_modulate", features, *inputs, *_pointers(out), *_sft_sizes(features, slope)
        )
        return out

    def sft_modulate_backward(
        self,
        grad_out: Tensor,
        features: Tensor,
        gamma: Tensor,
        gamma_s: Tensor | None,
        beta: Tensor,
        slope: float,
        wanted: tuple[bool, bool, bool, bool],
    ) -> tuple[Tensor | None, ...]:
        """Gradients of features, gamma, gamma_s and beta; None where `wanted` is False.

        grad_out has features' layout.
        """
        if not any(wanted):
            return None, None, None, None
        made = _empty_like((features, gamma, gamma_s, beta), wanted)
        n, channels, height, width = features.shape
        space = self._workspace("sft_modulate", features, n, channels, height * width)
        inputs = _sft_inputs(features, gamma, gamma_s, beta)
        outputs = _pointers(*made, space)
        sizes = _sft_sizes(features, slope)
        self._launch(
            "sft_modulate_backward", features, *_pointers(grad_out), *inputs, *outputs, *sizes
        )
        return made

    def _launch(self, name: str, like: Tensor, *arguments: Any) -> None:
        """Call a launcher on the device of `like`, on its current stream."""
        with _on(like.device):
            stream = torch.cuda.current_stream(like.device).cuda_stream if like.is_cuda else None
            code = getattr(self._library, f"allfocus_{name}")(*arguments, stream)
        check_launch(name, code)

    def _workspace(self, name: str, like: Tensor, *sizes: int) -> Tensor:
        size = getattr(self._library, f"allfocus_{name}_workspace")(*sizes)
        return torch.empty(size, dtype=torch.uint8, device=like.device)


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Make a GPU the current one meanwhile: a launcher uses that."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _dtype(tensor: Tensor) -> int:
    if tensor.dtype not in _DTYPES:
        known = ", ".join(str(d).removeprefix("torch.") for d in _DTYPES)
        raise UsageError(f"the CUDA kernels take {known}; got {tensor.dtype}: convert it first")
    return _DTYPES[tensor.dtype]


def _pointers(*tensors: Tensor | None) -> list[int | None]:
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]


def _empty_like(
    tensors: tuple[Tensor | None, ...], wanted: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    pairs = zip(tensors, wanted, strict=True)
    return tuple(torch.empty_like(t) if t is not None and asked else None for t, asked in pairs)


def _isotropic_sizes(image: Tensor, weights: Tensor) -> list[int]:
    return [_dtype(image), *image.shape, weights.shape[1]]


def _sft_inputs(
    features: Tensor, gamma: Tensor, gamma_s: Tensor | None, beta: Tensor
) -> list[int | None]:
    full = [int(tensor.shape == features.shape) for tensor in (gamma, beta)]
    return [
        *_pointers(features, gamma),
        full[0],
        *_pointers(gamma_s, beta),
        full[1],
    ]


def _sft_sizes(features: Tensor, slope: float) -> list[float]:
    channels_last = not features.is_contiguous() and features.is_contiguous(
        memory_format=torch.channels_last
    )
    layout = _NHWC if channels_last else _NCHW
    n, channels, height, width = features.shape
    return [slope, _dtype(features), layout, n, channels, height * width]
