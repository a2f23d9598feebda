"""Reading and writing weights: safetensors with the Spec inside, and the public code's pickles.

Pickles are only read through `torch.load(weights_only=True)`, so that a file cannot run code.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from allfocus.runtime.errors import CheckpointError
from allfocus.runtime.files import publish
from allfocus.runtime.spec import RANDOM, SPEC_KEY, Spec
from allfocus.train.models import build, variant
from allfocus.train.models.base import Changes, Net, describe
from allfocus.train.public import PUBLIC, State

NET_KEY = "allfocus.net"  # metadata: widths and depths that are not those of the model's name


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 over names, dtypes, shapes and bytes of all tensors, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save(path: Path, name: str, net: Net, *, weights: str, license: str) -> Spec:
    """Write `net` as float16 safetensors with its Spec in the metadata; returns the Spec."""
    state = {k: _as_stored(v).contiguous() for k, v in net.state_dict().items()}
    _check_finite(path, state)
    spec = describe(
        name,
        net,
        version=variant(name).version,
        weights=weights,
        weights_sha256=fingerprint(state),
        license=license,
    )
    with publish(path, durable=True) as temporary:
        save_file(state, temporary, metadata=_labels(net, spec))
    return spec


def _labels(net: Net, spec: Spec) -> dict[str, str]:
    """The file's metadata; widths and depths only where they are not those of the name."""
    changes = {NET_KEY: json.dumps(dict(net.changes))} if net.changes else {}
    return {SPEC_KEY: spec.to_json(), **changes}


def load(name: str, path: Path) -> tuple[Net, Spec]:
    """The net `name` with the weights of `path` (safetensors, or a pickle of tensors), in float32.

    A file without a Spec may also be the public code's: see `public.PUBLIC`.
    Raises CheckpointError where the file is damaged, wants to run code, belongs to another model,
    lacks or adds tensors, has another shape, or holds NaN or infinity.
    """
    public = PUBLIC.get(name)
    given, spec, changes = _read(path, public.part if public else "state_dict")
    if spec is not None and spec.name != name:
        raise CheckpointError(
            f"{path}: these are weights of {spec.name!r}, not of {name!r}; "
            f"use `--model {spec.name}` or other weights"
        )
    state = public.named(given) if public and spec is None else given
    net = build(name, changes)
    _check_keys(path, name, net.state_dict(), state)
    _check_finite(path, state)
    if public and state.keys() != given.keys():  # else they had our names: not the public code's
        state = public.in_rgb(state)
    net.load_state_dict(state)  # copied into the net's float32
    if spec is None:
        spec = describe(
            name,
            net,
            version=variant(name).version,
            weights=f"given by the user: {path.name}",
            weights_sha256=fingerprint(state),
            license="unknown: ask whoever made the file",
        )
    return net, spec


def load_any(path: Path) -> tuple[Net, Spec]:
    """The net whose weights `path` holds, safetensors with a Spec; errors as `load`."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected .safetensors")
    spec = _read_safetensors(path)[1]
    if spec is None:
        raise CheckpointError(f"{path}: expected weights with their Spec, as training writes them")
    return load(spec.name, path)


def random(name: str, seed: int) -> tuple[Net, Spec]:
    """The net `name` with random weights in every layer (`Net.draw`), for tests and timings."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build(name)
    net.draw(torch.Generator().manual_seed(seed))
    spec = describe(
        name,
        net,
        version=variant(name).version,
        weights=f"{RANDOM}, seed {seed}: for tests and timings only",
        weights_sha256=fingerprint(net.state_dict()),
        license="none needed",
    )
    return net, spec


def _read(path: Path, part: str) -> tuple[State, Spec | None, Changes]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected .safetensors or .pth")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_pickle(path, part), None, {}


def _read_safetensors(path: Path) -> tuple[State, Spec | None, Changes]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from None
    text = metadata.get(SPEC_KEY)
    spec = Spec.from_json(text) if text else None
    return state, spec, _changes(path, metadata.get(NET_KEY, "{}"))


def _changes(path: Path, text: str) -> Changes:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(type(value) is int for value in found.values()):
        raise CheckpointError(f"{path}: widths and depths that are none: {text[:80]!r}")
    return found


def _read_pickle(path: Path, part: str) -> State:
    """The tensors of a state_dict, or of the one that stands at `part` or "state_dict"."""
    try:
        data: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: this pickle holds more than tensors and would run code when loaded, or is "
            f"damaged; save its state_dict as safetensors instead ({str(error).splitlines()[0]})"
        ) from None
    except Exception as error:  # a damaged pickle can raise any: struct.error, KeyError ...
        raise CheckpointError(
            f"{path}: not a checkpoint, damaged or cut short ({type(error).__name__}: {error})"
        ) from None
    if isinstance(data, Mapping):
        parts = (data[key] for key in (part, "state_dict") if isinstance(data.get(key), Mapping))
        data = next(parts, data)
    if not isinstance(data, Mapping) or not all(isinstance(v, Tensor) for v in data.values()):
        raise CheckpointError(f"{path}: expected a state_dict of tensors, or {{{part!r}: ...}}")
    return {str(key).removeprefix("module."): value for key, value in data.items()}


def _check_keys(path: Path, name: str, wanted: Mapping[str, Tensor], state: State) -> None:
    missing, extra = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
    if missing or extra:
        raise CheckpointError(
            f"{path}: not weights of {name!r}: {_some('missing', missing)}, {_some('extra', extra)}"
        )
    for key, tensor in wanted.items():
        if tensor.shape != state[key].shape:
            raise CheckpointError(
                f"{path}: not weights of {name!r}: {key} is {list(state[key].shape)}, "
                f"expected {list(tensor.shape)}"
            )


def _some(what: str, keys: list[str]) -> str:
    shown = ", ".join(keys[:4]) + (", ..." if len(keys) > 4 else "")
    return f"{len(keys)} {what} ({shown})" if keys else f"0 {what}"


def _as_stored(tensor: Tensor) -> Tensor:
    """In float16, but for whole numbers: a normalisation counts batches beyond float16's range."""
    plain = tensor.detach().cpu()
    return plain.to(torch.float16) if plain.is_floating_point() else plain


def _check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    bad = [key for key, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise CheckpointError(f"{path}: NaN or infinity in {', '.join(bad[:4])}; use other weights")
