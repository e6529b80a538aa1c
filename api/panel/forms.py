"""Fields of a submitted form: only `application/x-www-form-urlencoded` of bounded size, no files."""

from collections.abc import Iterator
from urllib.parse import parse_qsl

from starlette.requests import Request

from api.body import read_body
from api.errors import invalid

FORM_BYTES = 512 * 1024
"""Maximum size of a form: twenty headers of 4 KiB, percent-encoded, and margin."""
MOST_FIELDS = 1000
FORM_TYPE = "application/x-www-form-urlencoded"
MOST_DIGITS = 18
"""Maximum digits of a number in a form. Every valid number is far shorter, and Python refuses to parse thousands of
digits."""


class Form:
    """Form fields in their order; a name may occur several times."""

    def __init__(self, fields: list[tuple[str, str]] | None = None) -> None:
        self._fields = fields or []

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._fields)

    def text(self, name: str, default: str = "") -> str:
        """Return the field's first value, stripped."""
        return next((value.strip() for field, value in self._fields if field == name), default)

    def raw(self, name: str) -> str:
        """Return the field's first value as sent."""
        return next((value for field, value in self._fields if field == name), "")

    def all(self, name: str) -> list[str]:
        """Return every value of the field as sent."""
        return [value for field, value in self._fields if field == name]

    def flag(self, name: str) -> bool:
        """Return True if the box is ticked."""
        return self.text(name) not in ("", "false", "0")

    def __contains__(self, name: str) -> bool:
        return any(field == name for field, _ in self._fields)


async def read_form(request: Request) -> Form:
    """Read the form from the request's body. Raises TooLarge and ValidationFailed."""
    raw = await read_body(request, FORM_BYTES)
    if not raw:
        return Form()
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM_TYPE:
        raise invalid("", "form", f"must be {FORM_TYPE}")
    try:
        return Form(parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict"))
    except (UnicodeDecodeError, ValueError) as error:
        raise invalid("", "form", "cannot be read as a form") from error


def whole(text: str) -> int | str:
    """Return a whole number as int, and anything else unchanged, for the API's validation to refuse."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS else text
