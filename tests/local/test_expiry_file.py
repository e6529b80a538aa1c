"""Files of expiry rows: every record is a row or a reason with its line, wherever reading begins."""

import io
import json
from decimal import Decimal
from typing import Any

import pytest

from domain.expiry.rows import IssuedCouponRow, Kind, PointTransferRow, Row
from local.expiry_file import LONGEST_LINE_BYTES, ExpiryFile, FileFormat, FileUnusableError, Rejected
from tests.expiry import row, told

HEADER = "transferId,customerId,accountId,points,remainingPoints,type,status,expiresAt,updatedAt"
ID = "3f2b8c1e-6d4a-4e0b-9a57-0c1d2e3f4a5b"
GOOD = f"{ID},{ID},,120.50,,add,active,2026-03-01T12:00:00Z,2026-01-02T03:04:05Z"


def opened(
    text: str | bytes, kind: Kind = Kind.POINTS, format_: FileFormat = FileFormat.CSV, **options: Any
) -> ExpiryFile:
    raw = text.encode() if isinstance(text, str) else text
    return ExpiryFile(io.BytesIO(raw), kind, format_, **options)


def read(file: ExpiryFile) -> tuple[list[Row], list[Rejected]]:
    rows: list[Row] = []
    rejected: list[Rejected] = []
    while (chunk := file.chunk(3)).rows or chunk.rejected:
        rows += chunk.rows
        rejected += chunk.rejected
    return rows, rejected


def csv_of(*lines: str) -> ExpiryFile:
    return opened("\n".join([HEADER, *lines]) + "\n")


def test_a_csv_row_is_what_json_would_have_been() -> None:
    [one], rejected = read(csv_of(GOOD))
    assert rejected == []
    assert isinstance(one, PointTransferRow)
    assert (one.points, str(one.points), one.remaining_points, one.account_id) == (
        Decimal("120.5"),
        "120.50",
        None,
        None,
    )


@pytest.mark.parametrize("kind", list(Kind))
def test_rows_of_every_kind_come_through_csv_and_ndjson_alike(kind: Kind) -> None:
    wire = [told(kind) for _ in range(7)]
    names = list(wire[0])
    lines = [",".join(names)] + [",".join(json.dumps(one[name]).strip('"') for name in names) for one in wire]
    from_csv = read(opened("\r\n".join(lines), kind))
    from_ndjson = read(opened("\n".join(map(json.dumps, wire)), kind, FileFormat.NDJSON))
    assert from_csv == from_ndjson == ([type(row(kind)).model_validate(one) for one in wire], [])


def test_names_of_database_columns_and_their_exported_instants_are_understood() -> None:
    header = "transfer_id;customer_id;points;type;status;expires_at;updated_at"
    cells = f"{ID.upper()};{ID};1E+2;p2p_add;active;2026-03-01 12:00:00.5+01;2026-01-02 03:04:05+0530"
    [one], rejected = read(opened(f"\ufeff{header}\n{cells}\n", delimiter=";"))
    assert rejected == []
    assert isinstance(one, PointTransferRow)
    assert one.points == 100
    assert one.expires_at is not None
    assert one.expires_at.isoformat() == "2026-03-01T11:00:00.500000+00:00"
    assert one.updated_at.isoformat() == "2026-01-01T21:34:05+00:00"


@pytest.mark.parametrize(("word", "used"), [("t", True), ("TRUE", True), ("1", True), ("f", False), ("no", False)])
def test_flags_are_written_in_many_ways(word: str, used: bool) -> None:
    wire = told(Kind.COUPONS)
    cells = ",".join(word if name == "used" else str(value) for name, value in wire.items())
    [one], _ = read(opened(f"{','.join(wire)}\n{cells}", Kind.COUPONS))
    assert isinstance(one, IssuedCouponRow)
    assert one.used is used


REJECTED = [
    pytest.param("x", "has 1 cells, not 9", id="too few cells"),
    pytest.param(GOOD + ",1", "has 10 cells, not 9", id="too many cells"),
    pytest.param(GOOD.replace("120.50", "12,5"), "has 10 cells, not 9", id="comma in a number"),
    pytest.param(GOOD.replace("120.50", "1 250"), "points: must be a number", id="no number"),
    pytest.param(GOOD.replace("120.50", "NaN"), "points: must be a number", id="NaN"),
    pytest.param(GOOD.replace("120.50", "-1"), "points: must not be negative", id="negative"),
    pytest.param(GOOD.replace("120.50", ""), "points: must be a number", id="empty number"),
    pytest.param(GOOD.replace("active", "spent"), "status: Input should be", id="unknown status"),
    pytest.param(GOOD.replace("2026-03-01T12:00:00Z", "01.03.2026"), "expiresAt: must be a date-time", id="date"),
    pytest.param(GOOD.replace("2026-03-01T12:00:00Z", "2026-03-01 12:00:00"), "expiresAt", id="no offset"),
    pytest.param(GOOD.replace("add", "\x00"), "holds U+0000", id="nul"),
]


@pytest.mark.parametrize(("line", "reason"), REJECTED)
def test_a_bad_line_is_rejected_by_number_and_those_around_it_are_kept(line: str, reason: str) -> None:
    rows, [rejected] = read(csv_of(GOOD, GOOD, line, GOOD))
    assert len(rows) == 3
    assert rejected.line == 4
    assert reason in rejected.reason


def test_a_line_that_is_no_utf8_is_rejected_alone() -> None:
    text = f"{HEADER},customerEmail\n{GOOD},łukasz@example.com\n{GOOD},a@example.com\n"
    rows, [rejected] = read(opened(text.encode("iso8859-2")))
    assert (len(rows), rejected.line) == (1, 2)
    assert "UTF-8" in rejected.reason


def test_a_value_never_stands_in_a_reason() -> None:
    wire = told(Kind.COUPONS, code="SECRET" * 400, customerEmail="SECRET@example.com", status="SECRET")
    _, [rejected] = read(opened(json.dumps(wire), Kind.COUPONS, FileFormat.NDJSON))
    assert "code: " in rejected.reason
    assert "status: " in rejected.reason
    assert "SECRET" not in rejected.reason


def test_a_quoted_cell_may_hold_line_breaks_and_lines_are_counted_on() -> None:
    quoted = f'{GOOD},"a\nb"'
    file = opened(f"{HEADER},walletCode\n{quoted}\nx\n{quoted}\n")
    rows, [rejected] = read(file)
    assert [one.wallet_code for one in rows if isinstance(one, PointTransferRow)] == ["a\nb", "a\nb"]
    assert rejected.line == 4


def test_a_quote_left_open_does_not_swallow_the_file() -> None:
    lines = [f'"{GOOD}'] + [GOOD] * 3_000
    rows, [rejected] = read(csv_of(*lines))
    assert rejected.line == 2
    assert "a quote may be left open" in rejected.reason
    assert len(rows) > 500
    assert f"up to line {3_002 - len(rows)}" in rejected.reason


def test_lines_of_ndjson_that_are_none_are_rejected_by_number() -> None:
    good = json.dumps(told(Kind.POINTS))
    lines = [good, "{", "", "[]", '{"points":1,"points":2}', "x" * (2 * LONGEST_LINE_BYTES + 7), good, "null"]
    rows, rejected = read(opened("\ufeff" + "\n".join(lines), format_=FileFormat.NDJSON))
    assert len(rows) == 2
    assert [one.line for one in rejected] == [2, 4, 5, 6, 8]
    assert "longer than" in rejected[3].reason


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "lacks columns: customerId", id="empty"),
        pytest.param(HEADER.replace("points", "amount", 1) + "\n", "unknown columns: 'amount'", id="unknown"),
        pytest.param(HEADER + ",points\n", "repeats columns: points", id="twice"),
        pytest.param(HEADER.replace(",updatedAt", "") + "\n", "lacks columns: updatedAt", id="lacking"),
        pytest.param(HEADER.replace(",", ";") + "\n", "unknown columns", id="another delimiter"),
        pytest.param("x" * 300_000, "not a CSV header", id="no text"),
    ],
)
def test_a_header_that_does_not_fit_is_said_at_once(text: str, said: str) -> None:
    with pytest.raises(FileUnusableError, match=said):
        opened(text)


@pytest.mark.parametrize("format_", list(FileFormat))
def test_reading_goes_on_anywhere_as_if_it_had_never_stopped(format_: FileFormat) -> None:
    wire = [told(Kind.POINTS, walletCode="a\nb" if n % 3 else "ł") for n in range(20)]
    if format_ is FileFormat.CSV:
        lines = [",".join(wire[0])]
        for n, one in enumerate(wire):
            cells = [f'"{value}"' if name == "walletCode" else str(value) for name, value in one.items()]
            lines.append(",".join(cells) if n % 5 else "bad")
    else:
        lines = [json.dumps(one) if n % 5 else "bad" for n, one in enumerate(wire)]
    text = "\n".join(lines)
    whole = read(opened(text, format_=format_))
    for most in (1, 2, 7):
        rows: list[Row] = []
        rejected: list[Rejected] = []
        position = line = 0
        while True:
            file = opened(text, format_=format_)
            if position:
                file.go_to(position, line)
            chunk = file.chunk(most)
            if not chunk.rows and not chunk.rejected:
                break
            rows, rejected = rows + chunk.rows, rejected + chunk.rejected
            position, line = chunk.position, chunk.line
        assert (rows, rejected) == whole
