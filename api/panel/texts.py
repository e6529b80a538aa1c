"""English texts of the panel from `texts/*.toml`, one file per page group; new files are found automatically.

`t("webhooks.title")` is the entry `title` of `texts/webhooks.toml`; `{name}` in a text is a placeholder.
"""

import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent / "texts"


def read_texts() -> dict[str, str]:
    """Return the texts by key. Raises ValueError if a value is not a string."""
    found: dict[str, str] = {}
    for file in sorted(FOLDER.glob("*.toml")):
        for name, value in tomllib.loads(file.read_text(encoding="utf-8")).items():
            if not isinstance(value, str):
                raise ValueError(f"{file.name}: {name} is not a string")
            found[f"{file.stem}.{name}"] = value
    return found


TEXTS = read_texts()


def t(key: str, **values: object) -> str:
    """Return the text of a key with its placeholders filled. Raises KeyError if the key or a value is missing."""
    text = TEXTS[key]
    return text.format_map(values) if values else text
