"""What is read is written again to the letter of its numbers; what other readers would lose is refused."""

import copy
import json
import pickle
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.wire.jsontext import MAX_NESTING, JsonTextError, Number, canonical, differences, dump, parse
from tests.domain.strategies import ODD_NUMBERS, any_json, numbers, places, replaced, texts


@pytest.mark.parametrize("text", [*ODD_NUMBERS, "0", "-1", "1e5", "1E5", "1.0e+05", "0.10", "1e00000000000000000002"])
def test_a_number_keeps_its_text(text: str) -> None:
    value = parse(text.encode())
    assert dump(value) == text
    assert value == Decimal(text)


@pytest.mark.parametrize(
    ("text", "expected_type"),
    [
        pytest.param("9223372036854775807", int, id="largest of 64 bits"),
        pytest.param("-9223372036854775808", int, id="smallest of 64 bits"),
        pytest.param("9223372036854775808", Number, id="one more"),
        pytest.param("-9223372036854775809", Number, id="one less"),
        pytest.param("-0", Number, id="an int has no negative zero"),
        pytest.param("1.0", Number, id="fraction"),
        pytest.param("true", bool, id="a boolean is no number"),
    ],
)
def test_whole_numbers_of_64_bits_are_ints_and_all_others_numbers(text: str, expected_type: type) -> None:
    assert type(parse(text.encode())) is expected_type


REFUSED = [
    pytest.param(b'{"a":{"b":[1,NaN]}}', "a.b.1", "NaN is not a JSON number", id="NaN"),
    pytest.param(b"[-Infinity]", "0", "-Infinity is not a JSON number", id="-Infinity"),
    pytest.param(b'{"a":[{"b":1,"b":1}]}', "a.0.b", "given twice", id="repeated key"),
    pytest.param(b'{"a":1,"\\u0061":1}', "a", "given twice", id="repeated key, once escaped"),
    pytest.param(b'{"a":"\\ud83d"}', "a", "lone surrogate", id="high surrogate alone"),
    pytest.param(b'["\\uDE00\\uD83D"]', "0", "lone surrogate", id="pair in the wrong order"),
    pytest.param(b'{"a":{"\\ud83d":1}}', "a", "lone surrogate", id="lone surrogate in a key"),
    pytest.param(b'{"a":["x\\u0000y"]}', "a.0", "U+0000", id="NUL escaped"),
    pytest.param(b'{"a":{"\\u0000":1}}', "a", "U+0000", id="NUL in a key"),
    pytest.param(b'"a\x00b"', "", "control character", id="NUL raw"),
    pytest.param(b'"a\nb"', "", "control character", id="line break raw"),
    pytest.param(b"\xef\xbb\xbf{}", "", "byte order mark", id="BOM"),
    pytest.param('{"a":1}'.encode("utf-16"), "", "UTF-8", id="UTF-16"),
    pytest.param(b'"\xed\xa0\x80"', "", "UTF-8 at byte 1", id="surrogate in UTF-8"),
    pytest.param(b'"\xc0\xaf"', "", "UTF-8 at byte 1", id="overlong UTF-8"),
    pytest.param(b"[" * 65 + b"]" * 65, "", "64 levels", id="65 levels"),
    pytest.param(b'{"a":' * 65 + b"1" + b"}" * 65, "", "64 levels", id="65 levels of objects"),
    pytest.param(b"[" * 200_000, "", "64 levels", id="200,000 levels"),
    pytest.param(b'{"a":[1E+1000]}', "a.0", "more than 1,000 digits", id="1E+1000"),
    pytest.param(b"[12.5E-999]", "0", "more than 1,000 digits", id="12.5E-999"),
    pytest.param(b"[1e-99999999999999999999]", "0", "more than 1,000 digits", id="absurd exponent"),
    pytest.param(b"", "", "line 1, column 1", id="empty"),
    pytest.param(b"{}{}", "", "Extra data", id="two values"),
    pytest.param(b"[1,]", "", "not JSON", id="trailing comma"),
    pytest.param(b"[01]", "", "not JSON", id="leading zero"),
    pytest.param(b"[+1]", "", "not JSON", id="plus sign"),
    pytest.param(b"[.5]", "", "not JSON", id="no digit before the point"),
    pytest.param(b"{'a':1}", "", "not JSON", id="single quotes"),
    pytest.param('["１"]'.encode().replace(b'"', b""), "", "not JSON", id="fullwidth digit"),
    pytest.param(b'"\\x41"', "", "not JSON", id="unknown escape"),
]


@pytest.mark.parametrize(("raw", "path", "message"), REFUSED)
def test_what_is_not_exact_json_is_refused_with_its_place(raw: bytes, path: str, message: str) -> None:
    with pytest.raises(JsonTextError) as refusal:
        parse(raw)
    assert refusal.value.path == path
    assert message.lower() in refusal.value.message.lower()


def test_a_refusal_never_repeats_more_of_a_key_than_its_beginning() -> None:
    with pytest.raises(JsonTextError) as refusal:
        parse(b'{"' + b"k" * 100_000 + b'":NaN}')
    assert len(str(refusal.value)) < 200


def test_nesting_to_the_limit_and_pairs_of_surrogates_are_taken() -> None:
    assert parse(b"[" * MAX_NESTING + b"]" * MAX_NESTING) is not None
    assert parse(b'"\\ud83d\\ude00 \\u20ac \\\\u0000"') == "😀 € \\u0000"
    assert dump(parse(b'"\\ud83d\\ude00"')) == '"😀"'


def test_keys_keep_their_order_and_text_is_not_escaped() -> None:
    raw = '{"z":1,"a":"zażółć 🙂 / מה","m":[true,null]}'
    assert dump(parse(raw.encode())) == raw


def test_a_long_text_goes_through() -> None:
    raw = '{"a":"' + "ż🙂" * 35_000 + '"}'
    assert dump(parse(raw.encode())) == raw


def test_the_writer_refuses_what_json_cannot_say() -> None:
    for value in (Decimal("NaN"), Decimal("Infinity"), object(), {1, 2}):
        with pytest.raises(TypeError):
            dump(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("remade", [copy.copy, copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_a_copied_number_keeps_its_text(remade: object) -> None:
    assert callable(remade)
    assert remade(Number("1e2")).text == "1e2"


@given(any_json)
def test_writing_and_reading_gives_the_same_value_and_text(value: object) -> None:
    text = dump(value)  # type: ignore[arg-type]
    again = parse(text.encode())
    assert dump(again) == text
    assert differences(value, again) == []  # type: ignore[arg-type]


@given(any_json)
def test_other_readers_agree_on_what_was_written(value: object) -> None:
    text = dump(value)  # type: ignore[arg-type]
    assert json.loads(text, parse_float=str, parse_int=str) == _by_text(value)


def _by_text(value: object) -> object:
    """Numbers as their text: what a reader has to see."""
    if isinstance(value, Number):
        return value.text
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list):
        return [_by_text(entry) for entry in value]
    return {key: _by_text(member) for key, member in value.items()} if isinstance(value, dict) else value


@given(st.binary(max_size=40) | st.text('{}[]",:\\ue0123456789-+.dD \n', max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused_and_nothing_else(raw: bytes) -> None:
    try:
        value = parse(raw)
    except JsonTextError:
        return
    assert parse(dump(value).encode()) == value


@given(any_json, st.data())
def test_canonical_bytes_are_equal_exactly_when_nothing_differs(value: object, data: st.DataObject) -> None:
    assert canonical(value) == canonical(_shuffled(value, data))  # type: ignore[arg-type]
    place = data.draw(st.sampled_from(places(value)))
    other = replaced(value, place, data.draw(any_json))
    same = differences(value, other) == []  # type: ignore[arg-type]
    assert (canonical(value) == canonical(other)) is same  # type: ignore[arg-type]


def _shuffled(value: object, data: st.DataObject) -> object:
    """The same value otherwise written: keys in another order, numbers with another text."""
    if isinstance(value, dict):
        items = data.draw(st.permutations(list(value.items())))
        return {key: _shuffled(member, data) for key, member in items}
    if isinstance(value, list):
        return [_shuffled(entry, data) for entry in value]
    if isinstance(value, int | Number) and not isinstance(value, bool):
        return Number(f"{Decimal(value):f}" + ("" if "." in f"{Decimal(value):f}" else ".0") + "0")
    return value


@given(numbers, numbers)
def test_numbers_have_one_canonical_text_exactly_when_their_values_are_equal(a: int | Number, b: int | Number) -> None:
    assert (canonical(a) == canonical(b)) is (a == b)


@pytest.mark.parametrize(
    "texts_of_one",
    [
        ("10.10", "10.1", "1.01E1", "1.010e+1"),
        ("100", "1E+2", "100.0", "1e2"),
        ("0", "-0", "0.00", "-0E+900", "0e-900"),
    ],
)
def test_a_number_is_one_however_it_is_written(texts_of_one: tuple[str, ...]) -> None:
    assert len({canonical(parse(text.encode())) for text in texts_of_one}) == 1


def test_differences_are_told_by_path() -> None:
    a = parse(b'{"same":1.0,"number":1,"gone":1,"list":[1,{"x":1},3],"kind":true,"null":null,"object":{}}')
    b = parse(b'{"same":1,"number":2,"list":[1,{"x":2}],"kind":1,"object":[],"new":0}')
    assert differences(a, b) == ["number", "gone", "list.1.x", "list.2", "kind", "null", "object", "new"]
    assert differences(1, 2) == [""]


@given(st.dictionaries(texts, texts, max_size=5))
def test_any_key_and_any_text_survive(value: dict[str, str]) -> None:
    assert parse(dump(value).encode()) == value  # type: ignore[arg-type]
