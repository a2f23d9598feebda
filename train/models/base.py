"""What every net here offers, so that export, training and benchmarks need not know which it is."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from allfocus.runtime.catalogue import entry
from allfocus.runtime.errors import UsageError, nearest
from allfocus.runtime.signature import KINDS, Phase
from allfocus.runtime.spec import Spec
from allfocus.train.models.count import count_macs, count_parameters

Outputs = Tensor | tuple[Tensor | None, ...]
Changes = Mapping[str, int]  # of a Config: what is not as its name has it
Method = Callable[..., Outputs]  # tensors named as in a Signature -> its outputs; None: left out


class Net(nn.Module, ABC):
    """A net whose phases take pictures [N, 3, H, W] in [0, 1], planes [N, 1, H, W] and vectors
    [N, context, 1, 1], and return such; H and W are multiples of `multiple`.

    `catalogue.Entry.signatures` names what goes in and out of each phase. A plane `defocus` is 0 in
    focus and 1 at `max_radius` pixels, `focus` is 1 in focus.
    """

    multiple: int  # pixels
    halos: Mapping[Phase, int]  # pixels: radius of a phase's receptive field, `context` being given
    context: int = 0  # channels of the vector that is pooled over the whole picture; 0: none
    max_radius: float = 0.0  # pixels; 0: no map of radii
    changes: Changes = MappingProxyType({})  # how it differs from its name's

    @property
    def halo(self) -> int:
        """That of all phases together."""
        return self.halos["whole"]

    @property
    def global_context(self) -> bool:
        """Whether anything is pooled over the whole picture."""
        return self.context > 0

    def multiple_of(self, phase: Phase) -> int:  # noqa: ARG002
        """What height and width of `phase` must be multiples of, in pixels: `multiple`, or less."""
        return self.multiple

    def phases(self) -> Mapping[Phase, Method]:
        """The phases there are; the parameters of each are named as its inputs."""
        return {"whole": self.forward}

    def draw(self, generator: torch.Generator) -> None:
        """Give a new net random weights in every layer, with which a photo becomes a picture of
        some contrast: for tests and timings, where every layer must matter.

        Here they are added to those there are, such that what starts as 1 stays near it.
        """
        for parameter in self.parameters():
            fan_in = parameter[0].numel()
            spread = (0.1 / fan_in) ** 0.5 if parameter.dim() > 1 else 0.05  # values stay near 1
            with torch.no_grad():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * spread)

    def run(self, phase: Phase, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs of `phase`, in the order of its Signature.

        Raises UsageError for a phase that the net does not have, and for inputs too few or many.
        """
        methods = self.phases()
        if phase not in methods:
            raise UsageError(f"no phase {phase!r} in this net: {nearest(phase, methods)}")
        names = list(inspect.signature(methods[phase]).parameters)
        if len(inputs) != len(names):
            raise UsageError(
                f"phase {phase!r}: expected {', '.join(names)}, got {len(inputs)} tensors"
            )
        outputs = methods[phase](*inputs)
        several = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(output for output in several if output is not None)


class Sigmoid(nn.Sigmoid):
    """The sigmoid of a map or a picture, in float32 also where autocast computes in bfloat16.

    That rounds to 1 what lies over a logit of 6, where a wrong pixel would learn nothing any more.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] -> the same."""
        kind = input.device.type
        wide = kind != "meta" and torch.is_autocast_enabled(kind)  # meta: to count, without values
        return super().forward(input.float() if wide else input)


class Deblurrer(Net):
    """A single-image deblurring net.

    `forward(image) -> (sharp, map)`. The map is the net's own: of the blur radius where there is a
    `max_radius`, else of the focus; None where it makes none.
    """

    @abstractmethod
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Deblur; see the class."""


@dataclass(frozen=True)
class Variant:
    """A name's net: how it is made of a Config, which one, and the version of its architecture."""

    name: str
    make: Callable[[Any], Net]
    config: Any  # the dataclass of the net's file
    version: int = 1

    def build(self, changes: Changes | None = None) -> Net:
        """A new net; of its Config, the whole numbers in `changes` are others.

        Raises UsageError where there is no such number, where it cannot be, or where the net would
        no longer be what the catalogue says of its name.
        """
        changes = dict(sorted((changes or {}).items()))
        numbers = [f.name for f in fields(self.config) if type(getattr(self.config, f.name)) is int]
        for key in changes:
            if key not in numbers:
                raise UsageError(
                    f"{self.name} has no width or depth {key!r}: {nearest(key, numbers)}"
                )
        try:
            net = self.make(replace(self.config, **changes))
        except ValueError as error:
            raise UsageError(f"{self.name}: {error}") from None
        net.changes = {k: n for k, n in changes.items() if n != getattr(self.config, k)}
        known = entry(self.name).multiple
        if net.multiple != known:
            raise UsageError(
                f"{self.name} takes multiples of {known} pixels, with {changes} it would be "
                f"{net.multiple}; expected widths and depths that leave this as it is"
            )
        return net


def phase_macs(name: str, net: Net, phase: Phase) -> float:
    """Multiply-accumulates of a phase for each pixel of its picture."""
    side = 16 * net.multiple
    shapes = {
        "picture": (1, 3, side, side),
        "plane": (1, 1, side, side),
        "vector": (1, net.context, 1, 1),
    }
    names = entry(name).signature(phase).inputs
    inputs = (torch.zeros(shapes[KINDS[n]], device="meta") for n in names)
    return count_macs(net, *inputs, phase=phase) / side**2


def describe(
    name: str, net: Net, *, version: int, weights: str, weights_sha256: str, license: str
) -> Spec:
    """The Spec of `net`, its figures counted from the net itself."""
    return Spec(
        name=name,
        version=version,
        multiple=net.multiple,
        halo=net.halo,
        global_context=net.global_context,
        color="rgb",
        max_radius=net.max_radius,
        parameters=count_parameters(net),
        macs_per_pixel=phase_macs(name, net, "whole"),
        weights=weights,
        weights_sha256=weights_sha256,
        license=license,
        paper=entry(name).paper,
    )
