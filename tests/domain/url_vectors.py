"""Reads `url_vectors.tsv`, the table of URLs and what becomes of them."""

import re
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path(__file__).parent / "url_vectors.tsv"
_ESCAPE = re.compile(r"\\(?:u([0-9a-f]{4})|(.))")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


@dataclass(frozen=True)
class UrlVector:
    """One line of the table. `url` contains PORT where a private listener's port belongs."""

    line: int
    verdict: str
    url: str
    addresses: tuple[str, ...]
    note: str

    def __str__(self) -> str:
        return f"line {self.line} {self.verdict}"

    def at(self, port: int) -> str:
        """The URL with the listener's port."""
        return self.url.replace("PORT", str(port))


def url_vectors() -> list[UrlVector]:
    """All lines of the table."""
    vectors = []
    for number, line in enumerate(_TABLE.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        verdict, url, addresses, note = [*line.split("\t"), "", "", ""][:4]
        vectors.append(UrlVector(number, verdict, _unescaped(url), tuple(addresses.split()), _unescaped(note)))
    return vectors


def _unescaped(text: str) -> str:
    text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], text)
    return _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)
