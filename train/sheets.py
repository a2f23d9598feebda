"""Pictures to look at while a run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from allfocus.train.data import Samples, batches
from allfocus.train.models.apl_detect import AplDetect
from allfocus.train.models.base import Deblurrer, Net
from allfocus.train.picture_file import write_picture
from allfocus.train.recipe import RADIUS

SHOWN = 4  # held-out samples in a sheet


class Sheets:
    """Pictures of how a net does on some held-out samples: `samples/STEP.png`.

    A row a sample: blurry, what the net makes of it, the truth, the net's map, the true one.
    """

    def __init__(self, net: Net, samples: Samples, out: Path, every: int = 1000) -> None:
        self.net, self.out, self.every, self.at_end = net, out, every, True
        scale = net.max_radius or RADIUS
        count = {"start": 0, "stop": SHOWN, "batch": 1}
        self.batches = list(batches(samples, **count, max_radius=scale, workers=0))

    def begin(self, first: int) -> None:
        """See Look: sheets of later steps are written anew when they are due."""

    @torch.inference_mode()
    def write(self, step: int) -> Mapping[str, float]:
        """The sheet of the net as it is now; its mode stays what it was. There are no figures."""
        training = self.net.training
        self.net.eval()
        rows = [self._row(batch.blurry, batch.sharp, batch.defocus) for batch in self.batches]
        self.net.train(training)
        write_picture(sheet_file(self.out, step), np.concatenate(rows)[..., ::-1])
        return {}

    def _row(self, blurry: Tensor, sharp: Tensor, defocus: Tensor) -> NDArray[np.uint8]:
        device = next(self.net.parameters()).device
        given = self.net(blurry.to(device))
        out, seen = (blurry, given) if isinstance(self.net, AplDetect) else given
        planes = (blurry, out, sharp, *(() if seen is None else (seen,)), defocus)
        return np.concatenate([_picture(plane) for plane in planes], axis=1)


def sheet_file(out: Path, step: int) -> Path:
    """Where the sheet of a step stands in a run's folder."""
    return out / "samples" / f"{step:07d}.png"


def can_show(net: Net) -> bool:
    """Whether there are sheets of such a net: it takes one picture."""
    return isinstance(net, Deblurrer | AplDetect)


def _picture(plane: Tensor) -> NDArray[np.uint8]:
    """[1, 1 or 3, H, W] -> RGB [H, W, 3]."""
    image = plane[0].float().clamp(0, 1).expand(3, -1, -1)
    return (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()
