"""Licences of what the product serves and installs: `python -m tests.licences` lists them.

Also of development tools, whatever their licence: they are not given to anybody.
"""

import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

from api.openapi import document
from api.panel.frame import rendering
from tests.house import PYPROJECT

PERMISSIVE = {"0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "PSF-2.0", "Zlib"}
ALLOWED = PERMISSIVE | {"CC-BY-4.0", "MPL-2.0", "OFL-1.1"}

SPELLINGS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "ISC License": "ISC",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""SPDX identifiers of what packages without `License-Expression` write in the field `License` or as a classifier."""


class Served(NamedTuple):
    """Licence of a file of somebody else that we serve, and its evidence.

    The evidence is a text of the file or, of a file that does not name its licence, the beginning of its SHA-256: a
    new version is looked up again.
    """

    licence: str
    evidence: str


FOREIGN = {
    "favicon.png": Served("Apache-2.0", "sha256:d16f72cf5a27"),  # Swagger UI
    "swagger-ui-bundle.js": Served("Apache-2.0", "sha256:4b5a9b35a1ad"),
    "swagger-ui.css": Served("Apache-2.0", "sha256:ca238f7d7c2c"),
    "css/vendor/fontawesome.min.css": Served(
        "CC-BY-4.0 AND OFL-1.1 AND MIT", "(Icons: CC BY 4.0, Fonts: SIL OFL 1.1, Code: MIT License)"
    ),
    "webfonts/fa-solid-900.woff2": Served("OFL-1.1", "sha256:ff58a6b0a01d"),  # Font Awesome Free
    "css/vendor/tabler.min.css": Served("MIT", "Licensed under MIT"),
    "js/vendor/tabler.min.js": Served("MIT", "Licensed under MIT"),
    "vendor/chart.umd.min.js": Served("MIT", "Released under the MIT License"),
    "vendor/chart.LICENSE.md": Served("MIT", "The MIT License (MIT)"),
}


def served() -> Iterator[tuple[str, str]]:
    """Yield each file that the panel and the API's page serve, with its licence. Raises ValueError without evidence."""
    for package, folder, names in (
        ("fastapi_offline", document.HERE, document.SERVED),
        ("starlette_admin", rendering.STATIC, rendering.SERVED),
    ):
        for name in names:
            ours = name not in FOREIGN and (folder / name).is_file() and "/" not in name
            path = folder / name if (folder / name).is_file() else Path(str(files(package))) / "static" / name
            yield name, PYPROJECT["project"]["license"] if ours else _licence_of_file(path, name)


def _licence_of_file(path: Path, name: str) -> str:
    licence, evidence = FOREIGN[name]
    content = path.read_bytes()
    digest = f"sha256:{sha256(content).hexdigest()}"
    if not digest.startswith(evidence) and evidence.encode() not in content:
        raise ValueError(f"{name} ({digest}): is its licence still {licence}?")
    return licence


def installed(requirements: Sequence[str]) -> list[Distribution]:
    """Return what these requirements install here, with everything that it depends on."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    todo = [Requirement(one) for one in requirements]
    while todo:
        wanted = todo.pop()
        key = (wanted.name.lower(), ",".join(sorted(wanted.extras)))
        if key in seen:
            continue
        seen.add(key)
        try:
            one = distribution(wanted.name)
        except PackageNotFoundError as error:
            raise LookupError(f"{wanted} is not installed: make install") from error
        found[one.name] = one
        for line in one.requires or ():
            needed = Requirement(line)
            extras = {"", *wanted.extras}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(needed)
    return [found[name] for name in sorted(found, key=str.lower)]


def licence_of(one: Distribution) -> str:
    """Return the licence of a distribution as an SPDX expression, or as it is written if that is not known."""
    if expression := one.metadata.get("License-Expression"):
        return expression
    written = one.metadata.get("License", "").strip().partition("\n")[0]
    if written and written != "UNKNOWN":
        return SPELLINGS.get(written, written)
    names = [line.rpartition(" :: ")[2] for line in one.metadata.get_all("Classifier", []) if "License ::" in line]
    return " AND ".join(SPELLINGS.get(name, name) for name in names)


def allowed(expression: str) -> bool:
    """Return True if we may give away what has this licence: all terms of AND, and one of those of OR."""
    parts = [part.strip("() ").split(" OR ") for part in re.split(r" AND (?![^(]*\))", expression)]
    return all(any(one.strip("() ") in ALLOWED for one in part) for part in parts)


def main() -> None:
    """Print every licence, under the heading of what it is the licence of."""
    print("Served files")
    for name, licence in served():
        print(f"  {name:<40} {licence}")
    extras = PYPROJECT["project"]["optional-dependencies"]
    for heading, requirements in (("Run time", PYPROJECT["project"]["dependencies"]), *extras.items()):
        print(heading)
        for one in installed(requirements):
            print(f"  {one.name:<40} {licence_of(one)}")


if __name__ == "__main__":
    main()
