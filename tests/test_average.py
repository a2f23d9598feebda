from __future__ import annotations

import torch
from torch import nn

from allfocus.train.average import Average


def set_to(net: nn.Module, value: float) -> None:
    for parameter in net.parameters():
        nn.init.constant_(parameter, value)


def test_it_moves_by_what_the_decay_leaves_and_fast_at_first() -> None:
    net = nn.Linear(1, 1)
    set_to(net, 0.0)
    average = Average({"net": net}, 0.5)
    set_to(net, 1.0)
    average.update({"net": net}, 0)  # keeps a tenth
    assert average.states["net"]["bias"].item() == torch.tensor(0.9).item()
    set_to(net, 0.0)
    average.update({"net": net}, 10_000)  # keeps half
    assert average.states["net"]["bias"].item() == torch.tensor(0.45).item()
    assert net.bias.item() == 0


def test_statistics_are_averaged_and_counts_taken() -> None:
    net = nn.BatchNorm2d(1)
    average = Average({"net": net}, 0.5)
    net(torch.ones(1, 1, 2, 2))  # moves the running mean by a tenth
    average.update({"net": net}, 10_000)
    assert average.states["net"]["running_mean"].item() == torch.tensor(0.05).item()
    assert average.states["net"]["num_batches_tracked"].item() == 1


def test_the_nets_get_it() -> None:
    net = nn.Linear(1, 1)
    set_to(net, 0.25)
    average = Average({"net": net}, 0.5)
    set_to(net, 1.0)
    other = Average({"net": net}, 0.5)
    other.load(average.states)
    other.put_into({"net": net})
    assert net.weight.item() == 0.25
