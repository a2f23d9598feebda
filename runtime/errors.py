"""The errors this project raises on purpose: each says what was expected, what came, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AllfocusError(Exception):
    """Base of every error raised on purpose; its text is written for the person who reads it."""

    exit_code = 1


class UsageError(AllfocusError, ValueError):
    """A call or a command line that cannot mean anything: wrong option, wrong combination."""

    exit_code = 2


class InputError(AllfocusError, ValueError):
    """A frame or an image file that cannot be processed as it is."""


class LimitError(InputError):
    """A picture that is in order, but larger than the caller allows: with more it can be done."""


class UnknownModelError(UsageError, KeyError):
    """A model name that is not in the catalogue; the text offers the nearest names."""

    def __str__(self) -> str:  # KeyError would show the repr
        return str(self.args[0])


class CheckpointError(AllfocusError):
    """Weights that do not belong to the model, are damaged, or are not plain tensors."""


class ArtefactError(AllfocusError):
    """An ONNX file or engine that is damaged, unlabelled, or made for something else."""


class BackendError(AllfocusError):
    """An inference engine that is not installed or cannot run on this machine."""


class ParityError(AllfocusError):
    """An export whose output is too far from the PyTorch model's."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'a', 'b'?` for the closest of `known`, or the list of all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    if close:
        return "did you mean " + ", ".join(repr(n) for n in close) + "?"
    return "known: " + ", ".join(names)
