"""Protocol buffers without a library, beside those that Google's writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfocus.runtime.wire import Field, fields, holding, message

PARTS = st.one_of(
    st.builds(Field, st.integers(1, 2**20), st.just(0), st.integers(0, 2**64 - 1)),
    st.builds(Field, st.integers(1, 2**20), st.just(2), st.binary(max_size=300)),
    st.builds(Field, st.integers(1, 2**20), st.just(1), st.binary(min_size=8, max_size=8)),
    st.builds(Field, st.integers(1, 2**20), st.just(5), st.binary(min_size=4, max_size=4)),
)


@given(st.lists(PARTS, max_size=8))
def test_what_is_written_is_read(parts: list[Field]) -> None:
    assert list(fields(message(parts))) == parts


@given(st.text(), st.text(), st.integers(-5, 2**40))
def test_it_reads_what_protobuf_writes(key: str, value: str, version: int) -> None:
    onnx = pytest.importorskip("onnx", reason="compares with it")
    try:
        model = onnx.ModelProto(model_version=version, doc_string=key)
        model.metadata_props.add(key=key, value=value)
        data = model.SerializeToString()
    except UnicodeEncodeError:  # a surrogate alone is no text for it
        return
    found = {field.number: field for field in fields(data)}
    if version:
        assert found[5].value == version % 2**64
    if key:
        assert found[6].text == key
    assert message(fields(data)) == data
    entry = message([holding(1, key), holding(2, value)])
    assert onnx.StringStringEntryProto.FromString(entry).value == value


@given(st.binary(max_size=60))
def test_noise_is_read_or_refused(data: bytes) -> None:
    try:
        found = list(fields(data))
    except ValueError:
        return
    assert list(fields(message(found))) == found


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x0a\x05abc", "2 of 5 bytes are missing"),
        (b"\x0a", "a number that does not end"),
        (b"\xff" * 11, "a number that does not end"),
        (b"\x02\x00", "number 0"),
        (b"\x0b", "unknown type 3"),
    ],
)
def test_what_is_no_message(data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        list(fields(data))


def test_a_number_is_not_bytes() -> None:
    with pytest.raises(ValueError, match="field 3: expected bytes"):
        _ = Field(3, 0, 7).text
