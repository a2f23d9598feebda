"""Graph surgery: the same results from fewer operations.

`operate` does what was measured to bring something. Each operation stands in a module of its own
and says there where it cannot be used; it then leaves the graph as it is.

Measured on one core with AVX-512 that others shared, by processor time in turns (7 to 21 rounds,
medians): how many times faster the part concerned is at 608x400 (608x416), or where it says so the
whole net. In ONNX Runtime (ORT) and OpenVINO (OV), float32 where nothing else is said.

| tried | ORT | OV | OV bf16 | |
|---|---|---|---|---|
| unshuffle and 3x3 as one strided 6x6: didanet-lite | 1.44 | 1.05 | 1.18 | done |
| the same: jdrl-unet-lite | 2.11 | 1.06 | 1.13 | done |
| the same, four convolutions of defocusgan-lite | 1.40 | 1.01 | 1.01 | done |
| the same, didanet-lite in 8 bits | 1.09 | - | - | done |
| unshuffle as SpaceToDepth: didanet-lite | 1.28 | 1.03 | 1.00 | less |
| the map's upsampling with its plane as a plane | 2.75 | 1.01 | 0.99 | done |
| the same as edge padding, a convolution, DepthToSpace | as that | 1.10 | 1.15 | no |
| residual scale in the weights, didanet-released | it does so itself | 1.01 | - | |
| the same, whole net in 8 bits at 96x64 | 1.20 | - | 1.59 | done |
| image and map convolved apart instead of joined | 0.94 | 0.94 | 0.83 | no |
| nearest doubling and its convolution as ConvTranspose | 1.14 | 1.45 | 0.77 to 0.92 | no |
| DepthToSpace in the other order (DCR) | 0.97 | 1.01 | 1.03 | no |

Of a whole net the unshuffle and the map are small: 6 and 12 of the 1,373 ms that didanet-lite takes
in ONNX Runtime on one core. apl-lite as a whole is 1.04 times faster (quartiles 1.04 to 1.06); with
jdrl-unet-lite (0.97, 0.95 to 1.05) and didanet-lite in 8 bits (1.00, 1.00 to 1.08) nothing shows
above the noise. Dividing a frame by 255 is left where it is: a product of that size takes 0.8 ms
there. No GPU has run any of this; TensorRT for RTX builds an engine of didanet-lite's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from allfocus.export.surgery_graph import Editor
from allfocus.export.surgery_resize import resize_planes
from allfocus.export.surgery_scale import fold_scales
from allfocus.export.surgery_unshuffle import fold_unshuffles

if TYPE_CHECKING:
    import onnx

_Operation = Callable[[Editor], list[str]]
_OF_WEIGHTS: tuple[_Operation, ...] = (fold_scales, fold_unshuffles)
_OF_THE_REST: tuple[_Operation, ...] = (resize_planes,)


def operate(model: onnx.ModelProto, *, weights_stay: bool = False) -> list[str]:
    """Rewrite `model` in place; what was done, a line each, in the order of the graph.

    The model computes what it did, but for the order in which a runtime adds up, and the rounding
    of a float32 weight that is scaled. Inputs, outputs and metadata stay, and weights keep their
    names, also those that are laid out anew. What functions hold is left alone. A second call finds
    nothing to do.

    To be used on a graph as `to_onnx` makes it, before anything is quantised. `weights_stay`: they
    will lie in another file, in which they are as in the checkpoint.
    """
    editor = Editor(model)
    operations = _OF_THE_REST if weights_stay else (*_OF_WEIGHTS, *_OF_THE_REST)
    done = [line for operation in operations for line in operation(editor)]
    if done:
        editor.remove_unused()
    return done
