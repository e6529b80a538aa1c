"""YAML is read strictly, and every value knows its line."""

import pytest

from commands.subscriptions.yaml_document import DocumentError, Value, read_document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: yes\nb: no\nc: on", {"a": "yes", "b": "no", "c": "on"}),
        ("a: true\nb: False\nc: ~\nd:\ne: null", {"a": True, "b": "False", "c": None, "d": None, "e": None}),
        (
            "a: 7\nb: -5\nc: 007\nd: 0x1F\ne: 1_0\nf: 1.5",
            {"a": 7, "b": -5, "c": "007", "d": "0x1F", "e": "1_0", "f": "1.5"},
        ),
        ("a: 2026-01-02T03:04:05Z\nb: 1:30", {"a": "2026-01-02T03:04:05Z", "b": "1:30"}),
        ("a: 12345678901234567890", {"a": "12345678901234567890"}),
        ("a: \"7\"\nb: 'true'", {"a": "7", "b": "true"}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("a: &here [1]\nb: *here", {"a": [1], "b": [1]}),
        ("<<: {a: 1}", {"<<": {"a": 1}}),
        ("\ufeffa: ü", {"a": "ü"}),
        ("", None),
    ],
)
def test_plain_words_are_text_but_for_a_few(text: str, value: Value) -> None:
    assert read_document(text.encode()).value == value


def test_every_value_knows_its_line_and_what_is_missing_that_of_its_surroundings() -> None:
    document = read_document(b"# c\nversion: 1\nlist:\n  - x: 1\n    y:\n      - a\n      - b\n  -\n    x: {z: 2}\n")
    paths = ("version", "list", "list.0", "list.0.x", "list.0.y", "list.0.y.1", "list.1", "list.1.x", "list.1.x.z")
    assert [document.line(path) for path in paths] == [2, 3, 4, 4, 5, 7, 9, 9, 9]
    assert [document.line(path) for path in ("list.0.missing", "list.1.x.z.deep", "nowhere", "")] == [4, 9, 1, 1]


@pytest.mark.parametrize(
    ("raw", "line", "message"),
    [
        pytest.param(b"a: 1\nb: 2\na: 3", 3, "duplicate key 'a'", id="a key twice"),
        pytest.param(b"a:\n  1: x", 2, "a key must be text", id="a number as key"),
        pytest.param(b"? [a]\n: b", 1, "a key must be text", id="a list as key"),
        pytest.param(
            b"a: 1\nb: !!python/name:os.system x", 2, "python/name:os.system is not supported", id="a foreign tag"
        ),
        pytest.param(b"a: !!int x", 1, "int is not supported", id="a tag that does not fit"),
        pytest.param(b"a: !!set {x}", 1, "set is not supported", id="a kind that JSON has not"),
        pytest.param(b"a: 1\nb: [", 2, "expected the node content", id="unfinished"),
        pytest.param(b"a: 1\n\tb: 2", 2, "found character", id="a tab"),
        pytest.param(b"a: 1\n--- \nb: 1", 2, "but found another document", id="two documents"),
        pytest.param(b"a: *b", 1, "undefined alias", id="an alias of nothing"),
        pytest.param(b"- &a [*a]", 1, "recursive aliases", id="an alias of itself"),
        pytest.param(b"a: b\nc: \xff", 2, "is not UTF-8", id="no UTF-8"),
        pytest.param(b"a: \x00", None, "special characters", id="a control character"),
        pytest.param(b'a: 1\nb: "\\ud83d"', 2, "half of a surrogate pair", id="half a character"),
        pytest.param(b'a: "\\U00110000"', None, "not a character", id="an escape beyond Unicode"),
        pytest.param(b"[" * 5_000, None, "nested too deeply", id="too deep for the parser"),
        pytest.param(b"a: " + b"[" * 20 + b"]" * 20, 1, "too large", id="too deep"),
    ],
)
def test_what_is_not_read_is_refused_with_its_line(raw: bytes, line: int | None, message: str) -> None:
    with pytest.raises(DocumentError, match=message.replace("(", r"\(")) as refused:
        read_document(raw)
    assert refused.value.line == line


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 12))
    with pytest.raises(DocumentError, match="too large"):
        read_document(("l0: &l0 x\n" + levels).encode())
