"""The contract's table of legacy bodies, from the file beside this."""

from pathlib import Path

_LINES = Path(__file__).with_name("legacy-forms.txt").read_text().splitlines()
TABLE: dict[tuple[str, str], tuple[str, str]] = {
    (name, variant): (type_, keys)
    for name, variant, type_, keys in (line.split() for line in _LINES if not line.startswith("#"))
}
"""By event name and variant: `type`, and the keys of `data`."""
