"""The contract's tables, from the text files beside this. Lines of `#` are comments."""

from pathlib import Path


def _rows(file: str) -> list[list[str]]:
    lines = Path(__file__).with_name(file).read_text().splitlines()
    return [line.split() for line in lines if not line.startswith("#")]


LEGACY_FORMS: dict[tuple[str, str], tuple[str, str]] = {
    (name, variant): (type_, keys) for name, variant, type_, keys in _rows("legacy-forms.txt")
}
"""By event name and variant: `type`, and the keys of `data` as the contract writes them, `a{b,c}` and `a[{b}]`."""


def marked_fields(name: str, mark: str) -> set[str]:
    """Dotted paths of the event's fields marked `legacy-only` or `secret`."""
    return {path for event, marked, path in _rows("marked-fields.txt") if (event, marked) == (name, mark)}
