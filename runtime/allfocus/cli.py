"""The command `allfocus`: the one place that names all rooms, each imported when it is called."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import allfocus
from allfocus.runtime.command import DONE, WRONG_USE, guarded, parsed
from allfocus.runtime.errors import UsageError, nearest


@dataclass(frozen=True)
class Command:
    """A module with `add_arguments(parser)` and `run(args)`, and what it is for."""

    module: str
    summary: str


COMMANDS = {
    "deblur": Command("allfocus.runtime.deblur_command", "make pictures sharp"),
    "eval": Command("allfocus.benchmarks.quality", "measure how good models are"),
    "export": Command("allfocus.export.to_trt", "turn a model into an ONNX file and an engine"),
    "batch": Command("allfocus.runtime.batch_command", "make many pictures sharp, on all cores"),
    "bench ablation": Command(
        "allfocus.benchmarks.ablation", "what each part of DID-ANet's training brings"
    ),
    "bench compare": Command(
        "allfocus.benchmarks.compare", "see whether a later result is slower or worse"
    ),
    "bench deadline": Command(
        "allfocus.benchmarks.deadline", "see a pipeline keep its deadline under load"
    ),
    "bench discs": Command(
        "allfocus.benchmarks.discs", "sharp photos blurred all over, at each radius"
    ),
    "bench flops": Command("allfocus.benchmarks.flops", "count what a model computes"),
    "bench front": Command(
        "allfocus.benchmarks.front", "train small nets alike: which are worth their time"
    ),
    "bench gallery": Command(
        "allfocus.benchmarks.gallery", "real defocused photos, before and after"
    ),
    "bench kernels": Command(
        "allfocus.benchmarks.kernel_speed", "time the CUDA operations against PyTorch"
    ),
    "bench latency": Command("allfocus.benchmarks.latency", "measure how long a model takes"),
    "bench models": Command("allfocus.benchmarks.model_table", "the table of all models"),
    "bench ratios": Command("allfocus.benchmarks.ratios", "what must not grow, for CI to compare"),
    "bench stream": Command(
        "allfocus.benchmarks.stream", "a video's rate against bare inference's"
    ),
    "bench throughput": Command(
        "allfocus.benchmarks.throughput", "frames a second where several calls run at once"
    ),
    "bench tiles": Command(
        "allfocus.benchmarks.tiles", "check tiles, and time frames that are partly in focus"
    ),
    "bench trade": Command(
        "allfocus.benchmarks.trade", "quality against time in every engine of this CPU"
    ),
    "bench trust": Command(
        "allfocus.benchmarks.trust", "see whether outputs that went wrong are noticed"
    ),
    "data check": Command("allfocus.train.data_check", "tell what a folder of pictures holds"),
    "data make-maps": Command(
        "allfocus.train.data_maps", "compute defocus maps for blurry/sharp pairs"
    ),
    "data render": Command(
        "allfocus.train.data_render", "make training samples once, for many runs"
    ),
    "doctor": Command("allfocus.runtime.doctor", "tell what works on this machine, and why not"),
    "map": Command("allfocus.runtime.map_command", "blur radii of a dual-pixel sensor's views"),
    "train": Command("allfocus.train.train", "train a model"),
    "video": Command("allfocus.runtime.video_command", "make a video sharp"),
    "watch": Command("allfocus.runtime.watch_command", "make sharp what arrives in a folder"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names: 0 done, 1 failed, 2 wrong use."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--version"]:
        print(f"allfocus {allfocus.__version__}")
        return DONE
    names = _group(words) or list(COMMANDS)
    rest = words[1:] if _group(words) else words
    if not rest or rest[0] in ("-h", "--help"):
        print(_overview(names), file=sys.stdout if rest else sys.stderr)
        return DONE if rest else WRONG_USE
    return guarded(partial(_dispatch, words), argparse.Namespace(json="--json" in words))


def _dispatch(words: Sequence[str], _: argparse.Namespace) -> int:
    name = _name(words)
    command = COMMANDS[name]
    module = import_module(command.module)
    about = f"{command.summary[0].upper()}{command.summary[1:]}."
    rest = words[len(name.split()) :]
    return parsed(f"allfocus {name}", about, module.add_arguments, module.run, rest)


def _name(words: Sequence[str]) -> str:
    """The command at the beginning of `words`; raises UsageError with the nearest ones."""
    group = _group(words)
    asked = " ".join(words[:2]) if group else words[0]
    if asked not in COMMANDS:
        raise UsageError(f"unknown command {asked!r}: {nearest(asked, group or COMMANDS)}")
    return asked


def _group(words: Sequence[str]) -> list[str]:
    """The commands of two words that begin as `words` do."""
    return [name for name in COMMANDS if words and name.startswith(f"{words[0]} ")]


def _overview(names: Sequence[str]) -> str:
    width = max(map(len, names))
    usage = (
        "usage: allfocus COMMAND ...\n       allfocus COMMAND --help\n       allfocus --version\n"
    )
    return "\n".join((usage, *(f"  {n:{width}}  {COMMANDS[n].summary}" for n in names)))
