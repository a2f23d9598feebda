"""ONNX files read without the package onnx: their metadata, and their functions inlined.

Field numbers are those of onnx.proto3 (github.com/onnx/onnx).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from allfocus.runtime.errors import ArtefactError
from allfocus.runtime.wire import Field, fields, holding, message

_GRAPH, _OPSET, _METADATA, _FUNCTIONS = 7, 8, 14, 25  # of ModelProto
_NODE, _INITIALIZER = 1, 5  # of GraphProto
_INPUT, _OUTPUT, _NAME, _OP, _ATTRIBUTE, _DOMAIN = 1, 2, 3, 4, 5, 7  # of NodeProto
_REFERS, _SUBGRAPH, _SUBGRAPHS = 21, 6, 11  # of AttributeProto, whose name is field 1
_RAW, _EXTERNAL, _LOCATION = 9, 13, 14  # of TensorProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto

Node = list[Field]
Functions = dict[tuple[str, str], "_Function"]  # by domain and name


def metadata(path: Path) -> dict[str, str]:
    """The metadata of an ONNX file. Raises ArtefactError where it is missing, or is none."""
    model = _model(path)
    try:
        return dict(_entry(f) for f in model if f.number == _METADATA)
    except ValueError as error:
        raise _damaged(path, error) from error


def inlined(path: Path) -> bytes | None:
    """An ONNX file with the bodies of its functions where they are called; None without functions.

    Weights that are in a file beside it are in the result, which stands nowhere. Raises
    ArtefactError where a file is missing or damaged.
    """
    model = _model(path)
    try:
        functions = {f.key: f for f in (_Function(f.data) for f in model if f.number == _FUNCTIONS)}
        if not functions:
            return None
        return message(_plain(model, functions, path.parent))
    except (ValueError, OSError) as error:
        raise _damaged(path, error) from error


def _model(path: Path) -> list[Field]:
    try:
        model = list(fields(path.read_bytes()))
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such ONNX file; make it with `allfocus export`") from None
    except (ValueError, OSError) as error:
        raise _damaged(path, error) from error
    if not any(field.number == _GRAPH for field in model):
        raise _damaged(path, ValueError("it has no graph"))
    return model


def _damaged(path: Path, error: Exception) -> ArtefactError:
    return ArtefactError(
        f"{path}: damaged, incomplete, or not an ONNX file ({error}); "
        "export it again with `allfocus export --force`"
    )


def _entry(field: Field) -> tuple[str, str]:
    """Key and value of a field that is a StringStringEntryProto."""
    found = {each.number: each.text for each in fields(field.data)}
    return found.get(_KEY, ""), found.get(_VALUE, "")


def _plain(model: Sequence[Field], functions: Functions, folder: Path) -> Iterator[Field]:
    """The fields of the model without functions, and without the opsets that only they had."""
    domains = {domain for domain, _ in functions}
    for field in model:
        if field.number == _GRAPH:
            yield holding(_GRAPH, message(_graph(field.data, functions, folder)))
        elif field.number == _OPSET:
            opset = {f.number: f for f in fields(field.data)}
            if 1 not in opset or opset[1].text not in domains:
                yield field
        elif field.number != _FUNCTIONS:
            yield field


def _graph(graph: bytes, functions: Functions, folder: Path) -> Iterator[Field]:
    numbers = count()
    for field in fields(graph):
        if field.number == _NODE:
            for node in _expanded(list(fields(field.data)), functions, numbers):
                yield holding(_NODE, message(node))
        elif field.number == _INITIALIZER:
            yield holding(_INITIALIZER, message(_inside(list(fields(field.data)), folder)))
        else:
            yield field


class _Function:
    """A FunctionProto: a name, formal inputs and outputs, and nodes."""

    def __init__(self, proto: bytes) -> None:
        parts = list(fields(proto))
        self.key = (_text(parts, 10), _text(parts, 1))
        self.inputs, self.outputs = _texts(parts, 4), _texts(parts, 5)
        self.nodes = [list(fields(f.data)) for f in parts if f.number == 7]
        self.defaults = [f.data for f in parts if f.number == 11]


def _expanded(node: Node, functions: Functions, numbers: Iterator[int]) -> Iterator[Node]:
    """A node, or those of the function that it calls, under names of their own."""
    function = functions.get((_text(node, _DOMAIN), _text(node, _OP)))
    if function is None:
        yield node
        return
    prefix = f"{function.key[1]}.{next(numbers)}."
    names = {"": ""} | _bound(function.inputs, _texts(node, _INPUT))
    names |= {k: v for k, v in _bound(function.outputs, _texts(node, _OUTPUT)).items() if v}
    given = [*function.defaults, *(f.data for f in node if f.number == _ATTRIBUTE)]
    attributes = {_text(list(fields(each)), 1): each for each in given}  # the node's own count
    for inner in function.nodes:
        renamed = list(_renamed(inner, names, prefix, attributes))
        yield from _expanded(renamed, functions, numbers)


def _bound(formal: Sequence[str], actual: Sequence[str]) -> dict[str, str]:
    """Names in the graph for those of a function; last ones may be left out, which is ""."""
    return dict(zip(formal, [*actual, *[""] * len(formal)], strict=False))


def _renamed(
    node: Node, names: dict[str, str], prefix: str, attributes: dict[str, bytes]
) -> Iterator[Field]:
    for field in node:
        if field.number in (_INPUT, _OUTPUT):
            yield holding(field.number, names.get(field.text, prefix + field.text))
        elif field.number == _NAME:
            yield holding(_NAME, prefix + field.text)
        elif field.number == _ATTRIBUTE:
            attribute = _attribute(list(fields(field.data)), attributes)
            if attribute is not None:
                yield holding(_ATTRIBUTE, attribute)
        else:
            yield field


def _attribute(attribute: list[Field], given: dict[str, bytes]) -> bytes | None:
    """An attribute with the caller's value where it refers to that; None where there is none."""
    if any(f.number in (_SUBGRAPH, _SUBGRAPHS) for f in attribute):
        raise ValueError("a function with a graph inside a node, which is not inlined")
    refers = _text(attribute, _REFERS)
    if not refers:
        return message(attribute)
    if refers not in given:
        return None
    kept = [f for f in fields(given[refers]) if f.number != 1]
    return message([holding(1, _text(attribute, 1)), *kept])


def _inside(tensor: list[Field], folder: Path) -> Iterator[Field]:
    """A TensorProto with its values inside it."""
    outside = dict(_entry(f) for f in tensor if f.number == _EXTERNAL)
    yield from (f for f in tensor if not outside or f.number not in (_EXTERNAL, _LOCATION))
    if outside:
        yield holding(_RAW, _read(outside, folder))


def _read(outside: dict[str, str], folder: Path) -> bytes:
    """The bytes that external data name: so many, from an offset, of a file in the folder."""
    location = outside.get("location", "")
    path = folder / location
    if not location or path.resolve().parent != folder.resolve():
        raise ValueError(f"external data outside of its folder, {location!r}")
    with path.open("rb") as file:
        file.seek(int(outside.get("offset", 0)))
        length = int(outside["length"]) if "length" in outside else -1
        values = file.read(length)
    if length not in (-1, len(values)):
        raise ValueError(f"external data cut off: {location} ends too early")
    return values


def _texts(parts: Sequence[Field], number: int) -> list[str]:
    return [f.text for f in parts if f.number == number]


def _text(parts: Sequence[Field], number: int) -> str:
    """The text of a field; "" where it is not there."""
    return next(iter(_texts(parts, number)), "")
