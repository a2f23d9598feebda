"""Averaged weights: what a net has been lately, on the average, is better than what it is now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


class Average:
    """The exponential moving average of some nets' tensors, statistics of normalisations included.

    After step k, counted from 0, the average keeps `min(decay, (1 + k) / (10 + k))` of itself: the
    weights of a new net are forgotten even in a short run. Whole numbers are taken as they are.
    """

    def __init__(self, nets: Mapping[str, nn.Module], decay: float) -> None:
        self.decay = decay
        self.states = _copied(nets)

    @torch.no_grad()
    def update(self, nets: Mapping[str, nn.Module], step: int) -> None:
        """Take in the nets as they are after `step`."""
        keep = min(self.decay, (1 + step) / (10 + step))
        for name, net in nets.items():
            for key, value in net.state_dict().items():
                mean = self.states[name][key]
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - keep)
                else:
                    mean.copy_(value)

    def load(self, states: Mapping[str, State]) -> None:
        """Go on from what `states` was saved."""
        for name, state in states.items():
            for key, value in state.items():
                self.states[name][key].copy_(value)

    @contextmanager
    def shown(self, nets: Mapping[str, nn.Module]) -> Iterator[None]:
        """The nets have their averaged weights for a while, and then their own again."""
        own = _copied(nets)
        self.put_into(nets)
        try:
            yield
        finally:
            for name, net in nets.items():
                net.load_state_dict(own[name])

    def put_into(self, nets: Mapping[str, nn.Module]) -> None:
        """Give the nets their averaged weights."""
        for name, net in nets.items():
            net.load_state_dict(self.states[name])


def _copied(nets: Mapping[str, nn.Module]) -> dict[str, State]:
    return {
        name: {key: value.detach().clone() for key, value in net.state_dict().items()}
        for name, net in nets.items()
    }
