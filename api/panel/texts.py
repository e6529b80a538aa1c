"""Every English string of the panel, from `texts/*.toml`: one file a page group, found by itself.

`t("webhooks.title")` is the entry `title` of `texts/webhooks.toml`; `{name}` in a text is filled in.
"""

import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent / "texts"


def read_texts() -> dict[str, str]:
    """Every text by its key; raises ValueError where one is no string."""
    found: dict[str, str] = {}
    for file in sorted(FOLDER.glob("*.toml")):
        for name, value in tomllib.loads(file.read_text(encoding="utf-8")).items():
            if not isinstance(value, str):
                raise ValueError(f"{file.name}: {name} is no text")
            found[f"{file.stem}.{name}"] = value
    return found


TEXTS = read_texts()


def t(key: str, **values: object) -> str:
    """The text of this key; raises KeyError when there is none, or a value is missing."""
    text = TEXTS[key]
    return text.format_map(values) if values else text
