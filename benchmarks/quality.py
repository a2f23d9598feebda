"""`allfocus eval`: how good models are, beside the input itself and classical baselines.

Models run through the runtime, as `allfocus.load` opens them: no torch is needed. What each figure
is stands in `train/metrics.py`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from allfocus.benchmarks import candidates, guided
from allfocus.benchmarks.candidates import (
    NO_VIEWS,
    Candidate,
    Guide,
    needs_views,
    open_classical,
    open_model,
    the_input,
)
from allfocus.benchmarks.common import size
from allfocus.benchmarks.deconvolution import MAX_RADIUS
from allfocus.benchmarks.guided import TRUE
from allfocus.benchmarks.machine import describe, finish
from allfocus.benchmarks.pairs import SYNTHETIC, DataSet, open_data
from allfocus.benchmarks.perceptual import open_lpips
from allfocus.benchmarks.quality_schema import QUALITY, QualityReport, QualityRow
from allfocus.benchmarks.quality_sheet import Sheet
from allfocus.benchmarks.quality_text import render
from allfocus.benchmarks.schema import encode
from allfocus.benchmarks.scoring import Settings, judge
from allfocus.runtime import ensemble as ensembles
from allfocus.runtime import skip as skips
from allfocus.runtime.catalogue import BASELINES
from allfocus.runtime.command import DONE, positive, script
from allfocus.runtime.errors import UsageError
from allfocus.runtime.files import check_folder, publish
from allfocus.runtime.probe import BACKENDS
from allfocus.runtime.reach import HELP as REACH
from allfocus.runtime.reach import check as check_reach
from allfocus.runtime.skip import AUTO
from allfocus.runtime.spec import PRECISIONS, Size
from allfocus.train import metrics
from allfocus.train.dense_flow import LEAST
from allfocus.train.evaluation_pair import Pair
from allfocus.train.picture_file import write_picture

_SIMILARITY = "PSNR, SSIM, MAE: means over pictures, against the sharp picture"
_MAPS = (
    "map MAE, MSE: in units of the model's max_radius, beyond which radii count as that, also in "
    "pixels"
)
_F_MAX = "F_max: over all pixels, of those in focus, which show a blur radius under 0.5 pixels"
_F_MAX_MASKS = "F_max: over all pixels, of those that the masks say are in focus"
_IN_FOCUS = "in focus, to input: PSNR of the output against the input there"
_BY_RADIUS = "by blur radius: PSNR over all pixels of all pictures together"
_MEAN_RADIUS = "the blur radius of a pixel is the mean of what its light comes from"
_GUIDED = "map of, true map: the model deblurs by that map of blur radii in place of its own"
_DEFORMED = "deformed truth: the sharp picture, warped onto each output by optical flow (DIS)"
Opener = AbstractContextManager[Candidate]


def evaluate(args: argparse.Namespace, data: DataSet) -> tuple[QualityReport, Sheet]:
    """Judge all candidates on `data`; raises at the first that fails, and reports nothing then."""
    machine = describe()
    lpips, missing = open_lpips()
    settings = Settings(float_output=args.float, deform=args.deform, lpips=lpips)
    first = next(iter(data))
    has_maps, has_sharp = first.radius is not None, first.sharp is not None
    notes = _notes(args, data, first, missing)
    if has_sharp:
        _check_wishes(args, first)
    models, estimator = _check_models(args, first, notes)
    under: list[str] = []
    if args.map_of is not None:
        under, said = guided.taking(args.map_of, models)
        guided.check(args.map_of, first, partial(_open, args))
        notes += said
    sheet, rows = Sheet(len(data)), []
    field = _of_models(args, list(models), under)
    if has_sharp:
        field = chain(_before(args, has_maps, estimator, notes), field)
    for opener in field:
        with opener as candidate:
            rows.append(_judge(candidate, data, settings, sheet))
            notes += _untrained(candidate)
    report = QualityReport(
        schema=QUALITY,
        machine=finish(machine),
        data=data.name,
        pictures=len(data),
        pixels=rows[0].whole.pixels,
        output="float" if args.float else "8 bits",
        map_radius=args.map_radius,
        skip=str(args.skip),
        ensemble=args.ensemble,
        reach=args.reach,
        rows=tuple(rows),
        notes=tuple(notes),
    )
    return report, sheet


def _notes(args: argparse.Namespace, data: DataSet, first: Pair, missing: str) -> list[str]:
    """What the figures are and what is missing; refuses --by-radius where there are no maps."""
    has_maps, has_sharp = first.radius is not None, first.sharp is not None
    if args.by_radius and not has_maps:
        raise UsageError(
            f"--by-radius: {data.name} has no maps (`defocus/` or `filtered/`) to tell radii by"
        )
    skipped = f"what is in focus: --skip {args.skip}, where the usual choice is {AUTO}"
    turned = (
        "models: one pass under the mean of the maps of two, turned"
        if args.ensemble == ensembles.MAP
        else f"models: the mean of {args.ensemble} passes of each picture, turned"
    )
    figures = (
        *((_SIMILARITY, has_sharp), (_MAPS, has_maps), (_F_MAX, has_maps)),
        *((_F_MAX_MASKS, not has_sharp), (_IN_FOCUS, has_maps)),
    )
    optional = (
        *((_BY_RADIUS, args.by_radius), (_DEFORMED, args.deform), (missing, missing)),
        (_MEAN_RADIUS, args.data == SYNTHETIC),
        (skipped, args.skip != AUTO),
        (turned, args.ensemble != 1),
        (f"models: --reach {args.reach} pixels", args.reach is not None),
        (_GUIDED, args.map_of is not None),
    )
    ours = ((note, True) for note in data.notes)
    return [note for note, wanted in (*figures, *ours, *optional) if wanted]


def _check_wishes(args: argparse.Namespace, first: Pair) -> None:
    """Refuse, before minutes of work, what would end them."""
    height, width = first.blurry.shape[:2]
    if min(height, width) < metrics.SSIM_WINDOW:
        raise UsageError(
            f"SSIM needs pictures of at least {metrics.SSIM_WINDOW}x{metrics.SSIM_WINDOW} pixels, "
            f"and {first.name} is {width}x{height}; give larger ones, or a larger --size"
        )
    if args.deform and min(height, width) < LEAST:
        raise UsageError(
            f"--deform: optical flow needs pictures of at least {LEAST}x{LEAST} pixels, and "
            f"{first.name} is {width}x{height}; give a larger --size, or leave --deform out"
        )
    own_maps = args.data != SYNTHETIC and first.radius is not None
    if args.baselines and own_maps and args.map_radius > MAX_RADIUS:
        raise UsageError(
            f"--map-radius: the classical baselines take up to {MAX_RADIUS:g} pixels, got "
            f"{args.map_radius:g}; leave them out with --no-baselines"
        )


def _check_models(
    args: argparse.Namespace, first: Pair, notes: list[str]
) -> tuple[dict[str, bool], str | None]:
    """Open each model: what cannot be used is told before minutes of work. Those that are judged,
    each with whether it takes a map from outside, and the first one that estimates blur radii; None
    where none does.
    """
    check_reach(args.reach)
    by_name = [name.strip() for name in args.model.split(",")]
    judged: dict[str, bool] = {}
    estimators, left = [], []
    for model in _models(args.model):
        try:
            with _open(args, model) as candidate:
                if candidate.estimates:
                    estimators.append(model)
                said = _why_not(candidate, first)
            if said:
                raise UsageError(f"{candidate.name} {said}")
            judged[model] = candidate.takes_map
        except UsageError as error:  # also of a reach or a radius to skip, without a map
            if model in by_name:
                raise
            left.append(f"{model} is left out: {error}")
    if not judged:
        raise UsageError(f"--model {args.model}: none can be judged: {'; '.join(left)}")
    notes.extend(left)
    return judged, next(iter(estimators), None)


def _before(
    args: argparse.Namespace, has_maps: bool, estimator: str | None, notes: list[str]
) -> Iterator[Opener]:
    """The input and the baselines, under the true maps or else the estimator's."""
    yield nullcontext(the_input())
    if args.baselines and (has_maps or estimator is not None):
        for name in BASELINES:
            model = None if has_maps else estimator
            yield open_classical(name, model, args.backend, args.threads or 0, args.precision)
    elif args.baselines:
        notes.append("no classical baselines: the data have no maps, and no model here gives any")


def _of_models(
    args: argparse.Namespace, models: Sequence[str], under: Sequence[str]
) -> Iterator[Opener]:
    """Each is opened when its turn comes; those of `under` again, under the maps for them."""
    for model, label in candidates.labels(models).items():
        yield _open(args, model, label)
        if model in under:
            opened = partial(_open, args)
            yield guided.open_guided(model, label, args.map_of, opened)


def _open(
    args: argparse.Namespace, model: str, label: str | None = None, guide: Guide | None = None
) -> Opener:
    return open_model(
        model,
        args.backend,
        args.threads or 0,
        label,
        skip=args.skip,
        ensemble=args.ensemble,
        reach=args.reach,
        precision=args.precision,
        guide=guide,
        views=True,
    )


def _why_not(candidate: Candidate, pair: Pair) -> str:
    """Why it gives nothing that these data tell the truth of; "" where it does."""
    if candidate.needs_views and pair.left is None:
        return NO_VIEWS
    if pair.sharp is not None and pair.in_focus is not None:
        return ""
    small = pair.cut(Size(64, 64))
    output = candidate.run(small, small.blurry)
    if pair.in_focus is None and output.image is None:
        return (
            "gives a map alone, and these data have no maps to judge it by; take a model that "
            "makes pictures, or data with maps (`defocus/`)"
        )
    if pair.sharp is None and output.defocus is None and output.focus is None:
        return (
            "gives no map, and these data have no sharp pictures to judge its pictures by; take a "
            "model with a map, or data with pairs"
        )
    return ""


def _judge(candidate: Candidate, data: DataSet, settings: Settings, sheet: Sheet) -> QualityRow:
    look = partial(sheet.look, candidate.name)
    with tqdm(data, desc=candidate.name, total=len(data), disable=None) as pairs:
        return judge(candidate, pairs, settings, look)


def _models(text: str) -> list[str]:
    return candidates.names(text, candidates.packaged())


def _untrained(candidate: Candidate) -> list[str]:
    if not candidate.untrained:
        return []
    return [f"{candidate.name} has {candidate.weights}: its figures say nothing about its design"]


def write(report: QualityReport, text: str, sheet: Sheet, folder: Path) -> None:
    """`folder/quality.json`, `quality.md` and `quality.png`."""
    for name, content in (("quality.json", encode(report)), ("quality.md", f"{text}\n")):
        with publish(folder / name) as draft:
            draft.write_text(content, encoding="utf-8")
    write_picture(folder / "quality.png", sheet.draw()[..., ::-1])
    print(f"wrote quality.json, quality.md and quality.png to {folder}", file=sys.stderr)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `allfocus eval`."""
    add = parser.add_argument
    text = (
        "names, with the weights that the package has, or .onnx, .engine files, such as "
        "`allfocus export --weights` writes; all: all names"
    )
    add("--model", default=candidates.ALL, metavar="NAME,...", help=text)
    add("--data", default=SYNTHETIC, metavar="DIR", help=f"pairs, or {SYNTHETIC}: the built-in set")
    add("--by-radius", action="store_true", help="also PSNR by blur radius")
    add("--deform", action="store_true", help="also against the truth warped onto the output")
    add("--float", action="store_true", help="float pictures in and out, instead of 8 bits")
    text = f"first {', '.join(BASELINES)}, under the true map where there is one"
    add("--baselines", action=argparse.BooleanOptionalAction, default=True, help=text)
    text = f"also the didanets under this model's map in place of their own, or the `{TRUE}` one"
    add("--map-of", metavar="NAME", help=text)
    add("--limit", type=positive, metavar="N", help="only the first N pictures")
    add("--size", type=size, metavar="WxH", help="only the middle of each picture, in pixels")
    text = "blur radius that white stands for in a folder's maps of 8 bits, in pixels (8)"
    add("--map-radius", type=_radius, default=8.0, metavar="PIXELS", help=text)
    add("--backend", default="auto", help=f"auto, onnxruntime, {', '.join(BACKENDS)}")
    text = "what models compute in (fp32, and files as they are, in ONNX Runtime)"
    add("--precision", choices=("auto", *PRECISIONS), help=text)
    add("--threads", type=positive, help="CPU threads (all there are)")
    add("--skip", type=skips.argument, default=AUTO, help=skips.HELP)
    add("--ensemble", type=ensembles.argument, default=1, metavar="N", help=ensembles.HELP)
    add("--reach", type=float, metavar="PIXELS", help=REACH)
    add("--json", action="store_true", help="print the result as one JSON object")
    add("--out", type=Path, metavar="FOLDER", help="also write JSON, Markdown, a sheet of crops")


def _radius(text: str) -> float:
    """An argparse type: a number of pixels above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e4:
        raise argparse.ArgumentTypeError(f"expected a number of pixels above 0, got {text!r}")
    return value


def run(args: argparse.Namespace) -> int:
    """Judge, print and write."""
    models = _models(args.model)
    if args.out is not None:
        check_folder(args.out)
    if args.map_of is not None:
        args.map_of = guided.named(args.map_of)
        models += [args.map_of] if args.map_of != TRUE else []
    views = any(needs_views(model, args.backend, args.precision) for model in models)
    data = open_data(args.data, args.map_radius, views=views).limited(args.limit, args.size)
    report, sheet = evaluate(args, data)
    text = render(report, args.by_radius)
    print(encode(report) if args.json else text, end="" if args.json else "\n", flush=True)
    if args.out is not None:  # last: minutes of work are shown even where they cannot be written
        write(report, text, sheet, args.out)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """The command run by its path."""
    return script("quality", "Judge models.", add_arguments, run, argv)


if __name__ == "__main__":
    sys.exit(main())
