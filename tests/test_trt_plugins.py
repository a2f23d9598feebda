"""The creators of the TensorRT plugins and the fields that they make them of."""

from __future__ import annotations

import pytest
from plugin_cases import made
from plugin_host import (
    FIELD_FLOAT64,
    RUNTIME,
    Field,
    Library,
    field,
    slope,
    version,
)


@pytest.mark.parametrize("name", ["IsotropicConv", "SftModulate"])
def test_a_creator_and_its_plugin_say_the_same_names(library: Library, name: str) -> None:
    names = (name.encode(), b"1", b"allfocus")
    plugin = made(library, name)
    assert library.creator_names(name) == plugin.names() == names
    assert plugin.clone().names() == plugin.attach().names() == names


def test_the_fields_of_a_node(library: Library) -> None:
    assert library.fields("IsotropicConv") == []
    assert [f.name for f in library.fields("SftModulate")] == [b"slope"]


@pytest.mark.parametrize(
    ("name", "fields", "phase", "said"),
    [
        ("IsotropicConv", (version(2),), 0, "fields of version 2; expected version 1"),
        ("IsotropicConv", (version(2),), RUNTIME, "fields of version 2; expected version 1"),
        ("IsotropicConv", (), RUNTIME, "fields of no version"),
        ("IsotropicConv", (slope(0.5),), 0, "unknown field 'slope'; expected none"),
        ("SftModulate", (slope(0.5),), RUNTIME, "fields of no version"),
        ("SftModulate", (version(1),), RUNTIME, "1 fields in an engine; expected 2"),
        ("SftModulate", (version(1), slope(0.5), slope(0.5)), RUNTIME, "3 fields"),
        ("SftModulate", (field("levels", 8, 5),), 0, "unknown field 'levels'; expected slope"),
        ("SftModulate", (field("slope", 1, 5),), 0, "slope: expected one float32; came 1 of Plug"),
        ("SftModulate", (field("slope", 0.5, FIELD_FLOAT64),), 0, "expected one float32"),
        ("SftModulate", (field("slope", 0.5, 1, length=2),), 0, "expected one float32; came 2"),
        ("SftModulate", (Field(b"slope", None, 1, 1),), 0, "expected one float32"),
        ("SftModulate", (Field(None, None, 1, 1),), 0, "unknown field ''"),
        ("SftModulate", (slope(float("nan")),), 0, "slope nan; expected a finite number"),
    ],
)
def test_wrong_fields_are_refused(
    library: Library, name: str, fields: tuple[Field, ...], phase: int, said: str
) -> None:
    assert library.create(name, *fields, phase=phase) is None
    log = library.log()
    assert log.startswith(f"1 allfocus {name}: ")
    assert said in log
