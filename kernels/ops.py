"""The operations for users: `isotropic_conv` and `sft_modulate`, on CPU and CUDA, differentiable.

Both are registered with PyTorch, so that `torch.compile` and `torch.export` see through them. On
CUDA they run the kernel library (see `library.py`), in float32, float16 or bfloat16 with float32
sums; on a CPU the reference, in those and float64.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from allfocus.kernels import registered
from allfocus.kernels.checks import check_isotropic, check_sft
from allfocus.runtime.errors import UsageError

Activation = Literal["none", "relu", "leaky_relu"]


def isotropic_conv(image: Tensor, seeds: Tensor, weights: Tensor) -> Tensor:
    """Blur each pixel with isotropic kernels of its own, and mix the levels (JDRL, eq. 7-9).

    image [N, C, H, W]; seeds [N, 2+3+...+m, H, W]: i values a level i = 2 ... m, at distances 0 to
    i-1 from the centre, of which the absolute value is taken; weights [N, m, H, W], level 1 being
    the image itself. Outside the image lie zeros. Returns [N, C, H, W].

    Raises UsageError for tensors that do not fit together, BackendError where they are on a GPU and
    the kernel library was not built.
    """
    check_isotropic(image, seeds, weights)
    blurred: Tensor = registered.isotropic_conv(image, seeds, weights)
    return blurred


def sft_modulate(
    features: Tensor,
    gamma_c: Tensor,
    gamma_s: Tensor | None,
    beta: Tensor,
    *,
    activation: Activation = "none",
    slope: float = 0.2,
) -> Tensor:
    """Spatial feature transform: `act(features * gamma_c * gamma_s + beta)` (Ye et al.).

    features [N, C, H, W]; gamma_c [N, C, 1, 1] (or [N, C, H, W]: the plain form); gamma_s
    [N, 1, H, W] or None; beta [N, C, H, W] (or [N, C, 1, 1]: with gamma_s None the channel-only
    form, APL's UFAT). Nothing of the product's size is made but the result, which has the layout of
    features: NCHW or channels-last. `slope` is that of leaky_relu.

    Raises UsageError and BackendError as `isotropic_conv` does.
    """
    check_sft(features, gamma_c, gamma_s, beta)
    factor = _slope(activation, slope)
    modulated: Tensor = registered.sft_modulate(features, gamma_c, gamma_s, beta, factor)
    return modulated


def _slope(activation: str, slope: float) -> float:
    known = {"none": 1.0, "relu": 0.0, "leaky_relu": slope}
    if activation not in known:
        raise UsageError(f"activation {activation!r}: expected one of {', '.join(known)}")
    return known[activation]
