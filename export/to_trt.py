"""From weights to an engine: `python export/to_trt.py --model NAME`, also `allfocus export`.

Weights, ONNX file, parity check, engine, manifest. What was made before from the same things is
found in the cache; what fails leaves nothing behind.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import allfocus
    from allfocus.export import cache
    from allfocus.export.face_options import add_face
    from allfocus.export.flavour import BACKENDS, DEFAULT_TARGETS, RTX_TARGETS, Target
    from allfocus.export.phase_option import add_phase, as_json, phases_of
    from allfocus.export.plan import AUTO, DEFAULT_SIZE, PLUGINS, Options, Plan, make_plan
    from allfocus.export.precision_options import add_precision
    from allfocus.export.steps import Steps
    from allfocus.export.tolerance import Tolerance, tolerance
    from allfocus.export.weights import OPTION
    from allfocus.runtime.catalogue import entry
    from allfocus.runtime.command import DONE, script
    from allfocus.runtime.errors import UsageError
    from allfocus.runtime.files import publish, remove_drafts
    from allfocus.runtime.lock import locked
    from allfocus.runtime.manifest import SCHEMA, Manifest, manifest_path, sha256
    from allfocus.runtime.signature import Phase
    from allfocus.runtime.spec import CANARY_KEY, LOSS_KEY, Spec
except ModuleNotFoundError as error:
    sys.exit(f'{error}; install the project first: pip install -e ".[export,trt-rtx]"')

if TYPE_CHECKING:
    from onnx import ModelProto

    from allfocus.export.eight_bits import Reduced
    from allfocus.export.reduction import Reduction
    from allfocus.train.models.base import Net


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--model", default="didanet", help="a model's name (default didanet)")
    parser.add_argument("--weights", help=f"{OPTION}; default: the package's")
    add_phase(parser)
    add_precision(parser)
    parser.add_argument("--size", help=f"one size, WIDTHxHEIGHT (default {DEFAULT_SIZE})")
    for end in ("min", "opt", "max"):
        parser.add_argument(f"--{end}", help="a range of sizes; give --min, --opt and --max")
    parser.add_argument("--backend", choices=BACKENDS, default="auto")
    parser.add_argument(
        "--target",
        help=f"GPU generations, of {','.join(RTX_TARGETS)} (default {','.join(DEFAULT_TARGETS)} "
        "and the GPUs that are here); TensorRT for RTX only",
    )
    parser.add_argument(
        "--plugins",
        choices=PLUGINS,
        default="auto",
        help="CUDA kernels of this project in the engine, where the model has operations for them; "
        "auto: with TensorRT, where the plugin library is built",
    )
    parser.add_argument(
        "--fp32-layers",
        help="layers that stay float32 in fp16, by name or pattern (tail,blocks.0.*), or auto: the "
        "fewest that reach the model's PSNR; in int8 and fp8, layers that are not in 8 bits",
    )
    add_face(parser, "frame")
    parser.add_argument("--onnx-only", action="store_true", help="make no engine")
    parser.add_argument("--out", type=Path, help="folder for the files; default: the cache")
    parser.add_argument("--force", action="store_true", help="make it again, cached or not")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Make the files, or find them in the cache, and report."""
    plans = _plans(_options(args))
    if args.out is not None and args.out.suffix in (".onnx", ".engine") and not args.out.is_dir():
        raise UsageError(
            f"--out {args.out}: expected a folder; files get names of model, precision and size. "
            "One ONNX file of any name is made by `python export/to_onnx.py --out FILE`"
        )
    reports: dict[Phase, dict[str, Any]] = {}
    for plan in plans:
        report = export(plan, out=args.out, force=args.force)
        reports[plan.graph.phase] = report
        if not args.json:
            print(_table(report))
    if args.json:
        print(as_json(args.phase, reports))
    return DONE


def _plans(options: Options) -> list[Plan]:
    """One for each phase that is asked for; notes about them are told."""
    phases = phases_of(options.phase, options.model)
    made = [make_plan(replace(options, phase=phase)) for phase in phases]
    for note in dict.fromkeys(note for _, notes in made for note in notes):
        print(f"allfocus: {note}", file=sys.stderr)
    return [plan for plan, _ in made]


def main(argv: Sequence[str] | None = None) -> int:
    """The command run by its path."""
    return script("to_trt", "Export a model to ONNX and TensorRT.", add_arguments, run, argv)


@dataclass(frozen=True)
class Source:
    """What an export starts from: the float32 net, its Spec, and its graph."""

    net: Net
    spec: Spec
    onnx: ModelProto
    kept: tuple[str, ...]  # layers in float32, or not in 8 bits
    reduced: Reduced | None = None


def export(plan: Plan, *, out: Path | None = None, force: bool = False) -> dict[str, Any]:
    """Make what `plan` says, or find it; a report of plain values.

    The files go to `out`, or to the cache's folder of this plan. Two processes with the same plan
    wait for each other; the second then finds what the first has made.
    """
    steps = Steps()
    with steps("key"):
        key = cache.key_of(plan)
    folder = (out or cache.folder_of(plan, key)).absolute()
    with locked(folder / f".{plan.stem}.lock", lambda: _tell_waiting(plan)):
        # what a killed export of the same left: the lock says that none is at work
        remove_drafts(folder / f"{plan.stem}{end}" for end in (".onnx", ".engine", ".json"))
        if plan.target is None:
            return _make_onnx(plan, folder, steps)
        with steps("cache"):
            manifest = None if force else cache.find(folder, plan, key)
        cached = manifest is not None
        if manifest is None:
            manifest = _make_engine(plan, plan.target, folder, key, steps)
    return {
        **_onnx_report(plan, manifest.spec, folder, manifest.parity),
        **_engine_report(manifest, folder / f"{plan.stem}.engine"),
        "cached": cached,
        "seconds": steps.seconds,
    }


def _make_onnx(plan: Plan, folder: Path, steps: Steps) -> dict[str, Any]:
    source = _trace(plan, steps)
    with publish(folder / f"{plan.stem}.onnx") as draft:
        parity = _write_checked(source, plan, draft, steps)
    _write_trade(source, plan, folder)
    nothing = {"engine": None, "manifest": None, "backend": None, "flavour_version": None}
    report = _onnx_report(plan, source.spec, folder, parity)
    empty = {"targets": [], "plugins": False, "cached": False}
    return {**report, **nothing, **empty, "seconds": steps.seconds}


def _make_engine(plan: Plan, target: Target, folder: Path, key: str, steps: Steps) -> Manifest:
    """Write all files; the manifest comes last, so that it stands beside whole files only."""
    from allfocus.export.builder import build_engine

    engine, onnx = (folder / f"{plan.stem}{suffix}" for suffix in (".engine", ".onnx"))
    source = _trace(plan, steps)
    with publish(onnx) as onnx_draft, publish(engine) as engine_draft:
        parity = _write_checked(source, plan, onnx_draft, steps)
        with steps("build"):
            built = build_engine(onnx_draft, plan.graph, target, plugins=plan.plugins)
        engine_draft.write_bytes(built.data)
        _write_trade(source, plan, folder)
    manifest = Manifest(
        schema=SCHEMA,
        allfocus=allfocus.__version__,
        spec=source.spec,
        graph=plan.graph,
        flavour=target.flavour,
        flavour_version=built.version,
        targets=target.targets,
        key=key,
        engine_sha256=sha256(engine),
        engine_bytes=len(built.data),
        onnx=onnx.name,
        onnx_sha256=sha256(onnx),
        canary=_canary(source.onnx),
        build_seconds=steps.seconds["build"],
        parity=parity,
        options={
            "strongly_typed": True,
            "plugins": built.plugins,
            **_layers(source, plan),
            **cache.versions(),
        },
    )
    with publish(manifest_path(engine)) as draft:
        draft.write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _canary(model: ModelProto) -> str:
    """The golden frame's answers, which the ONNX file has too."""
    found: dict[str, str] = {each.key: each.value for each in model.metadata_props}
    return found[CANARY_KEY]


def _trace(plan: Plan, steps: Steps) -> Source:
    with steps("weights"):
        net, spec = plan.weights.load(plan.model)
    with steps("export"):
        from allfocus.export import to_onnx

        if plan.reduction is None:
            kept = _kept(plan, net)
            spec = to_onnx.of_graph(spec, net, plan.graph)
            return Source(net, spec, to_onnx.export(net, spec, plan.graph, kept), kept)
    with steps("8 bits"):
        reduced = _reduced(plan, plan.reduction, net, spec)
    with steps("export"):
        spec = to_onnx.of_graph(spec, net, plan.graph)
        model = to_onnx.export(net, spec, plan.graph, bits=reduced.bits)
        model.metadata_props.add(
            key=LOSS_KEY, value=json.dumps(reduced.label(plan.reduction.max_loss))
        )
        return Source(net, spec, model, reduced.bits.kept, reduced)


def _reduced(plan: Plan, how: Reduction, net: Net, spec: Spec) -> Reduced:
    from allfocus.export.eight_bits import Original, reduce
    from allfocus.export.lower import matching

    return reduce(Original(net, spec), how, matching(net, plan.fp32_layers))


def _kept(plan: Plan, net: Net) -> tuple[str, ...]:
    """The layers that stay float32."""
    from allfocus.export.layers import search
    from allfocus.export.lower import matching
    from allfocus.export.verify import HALF_SIZE

    if plan.fp32_layers == (AUTO,):
        return search(net, plan.graph, entry(plan.model).fp16_db, HALF_SIZE)
    return matching(net, plan.fp32_layers)


def _write_checked(source: Source, plan: Plan, path: Path, steps: Steps) -> dict[str, float]:
    """Write the ONNX file, compare it with PyTorch, measure its memory: the figures of parity."""
    from allfocus.export import footprint, to_onnx
    from allfocus.export.verify import check_half, verify
    from allfocus.export.widened import ON_CPUS

    with steps("parity"):
        to_onnx.write(source.onnx, path)
        limit = entry(plan.model).fp16_db
        figures = verify(path, source.net, plan.graph, fp16_db=limit, kept=source.kept)
        if plan.reduction is not None and plan.reduction.base == "fp16":  # all that is not 8 bits
            halves = replace(plan.graph, precision="fp16")
            figures["float16_psnr_db"] = check_half(source.net, halves, limit)
    if source.reduced is not None and plan.reduction is not None:
        figures |= source.reduced.figures(plan.reduction.max_loss)
    if plan.graph.precision in ON_CPUS:
        with steps("memory"):
            footprint.write_down(path)
    return figures


def _layers(source: Source, plan: Plan) -> dict[str, Any]:
    """Which layers compute in what, for the manifest; with what the choice was measured on."""
    if source.reduced is None or plan.reduction is None:
        return {"fp32_layers": ",".join(source.kept)}
    return {"eight_bits": source.reduced.label(plan.reduction.max_loss)}


def _write_trade(source: Source, plan: Plan, folder: Path) -> None:
    """What 8 bits cost, and the ranges, beside the files that are published now."""
    from allfocus.export import trade_text

    if source.reduced is None:
        return
    stem = folder / plan.stem
    trade_text.write(source.reduced.trade, stem)
    source.reduced.bits.ranges.write(stem.with_name(f"{plan.stem}-ranges.json"))
    print(trade_text.table(source.reduced.trade), file=sys.stderr)


def _options(args: argparse.Namespace) -> Options:
    return Options(**{name: getattr(args, name) for name in Options.__dataclass_fields__})


def _tell_waiting(plan: Plan) -> None:
    print(f"allfocus: waiting for another export of {plan.stem} ...", file=sys.stderr)


def _onnx_report(plan: Plan, spec: Spec, folder: Path, parity: dict[str, float]) -> dict[str, Any]:
    onnx = folder / f"{plan.stem}.onnx"
    return {
        "model": plan.model,
        "weights": spec.weights,
        **plan.graph.to_dict(),
        "face": plan.graph.face,
        "size": str(plan.graph.shapes),
        "onnx": str(onnx),
        "onnx_bytes": onnx.stat().st_size,
        "parity": {**parity, "tolerance": _limit(plan).to_dict()},
    }


def _limit(plan: Plan) -> Tolerance:
    """What the first output was held to."""
    return tolerance(plan.graph, plan.graph.signature.outputs[0], entry(plan.model).fp16_db)


def _engine_report(manifest: Manifest, engine: Path) -> dict[str, Any]:
    return {
        "engine": str(engine),
        "engine_bytes": manifest.engine_bytes,
        "manifest": str(manifest_path(engine)),
        "backend": manifest.flavour,
        "flavour_version": manifest.flavour_version,
        "targets": list(manifest.targets),
        "plugins": manifest.plugins,
    }


def _table(report: dict[str, Any]) -> str:
    """The report for people: what was made, where it is, and how true it is to the net."""
    parity = report["parity"]
    found = ", from the cache" if report["cached"] else ""
    lines = [
        f"{report['model']} {report['precision']} {report['size']}, face {report['face']}{found}",
        f"onnx     {report['onnx']} ({_megabytes(report['onnx_bytes'])})",
    ]
    if report["engine"]:
        lines += [
            f"engine   {report['engine']} ({_megabytes(report['engine_bytes'])})",
            f"built by {report['backend']} {report['flavour_version']} "
            f"for {', '.join(report['targets'])}{' with plugins' if report['plugins'] else ''}",
        ]
    allowed = ", ".join(f"{name} {value:.2g}" for name, value in parity["tolerance"].items())
    lines.append(
        f"parity   max_abs {parity['max_abs']:.2g}, mean_abs {parity['mean_abs']:.2g}, "
        f"psnr_db {parity['psnr_db']:.1f} against PyTorch fp32 (allowed: {allowed})"
    )
    for half in ("float16", "bfloat16"):
        if f"{half}_psnr_db" in parity:
            lines.append(f"{half:<8} psnr_db {parity[f'{half}_psnr_db']:.1f}, every result rounded")
    if "loss_db" in parity:
        lines.append(
            f"loss     {parity['loss_db']:.4f} dB on the evaluation set (allowed: "
            f"{parity['max_loss_db']:g}): {parity['evaluation_psnr_db']:.3f}, float32 "
            f"{parity['float32_evaluation_psnr_db']:.3f}"
        )
    return "\n".join(lines)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB"


if __name__ == "__main__":
    sys.exit(main())
