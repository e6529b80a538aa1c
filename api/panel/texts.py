"""English texts of the panel from `texts/*.toml`, one file per page group; new files are found automatically.

`t("webhooks.title")` is the entry `title` of `texts/webhooks.toml`; `{name}` in a text is a placeholder.
"""

import tomllib
from pathlib import Path

TEXTS: dict[str, str] = {
    f"{file.stem}.{name}": text
    for file in (Path(__file__).parent / "texts").glob("*.toml")
    for name, text in tomllib.loads(file.read_text(encoding="utf-8")).items()
}


def t(key: str, **values: object) -> str:
    """Return the text of a key with its placeholders filled. Raises KeyError if the key or a value is missing."""
    text = TEXTS[key]
    return text.format_map(values) if values else text
