"""Static files, our own and those of an installed package."""

from collections.abc import Collection, Mapping
from os import stat_result
from pathlib import Path

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope


class ListedFiles(StaticFiles):
    """The files `served`, of our folder or else of the package's folder `static`; any other is a 404.

    A package may bring files that no page loads, and whose licence does not allow us to serve them.
    """

    def __init__(
        self, package: str, folder: Path, served: Collection[str], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(directory=folder, packages=[(package, "static")])
        self._served = served
        self._headers = headers or {}

    def lookup_path(self, path: str) -> tuple[str, stat_result | None]:
        """Return the path and the status of a file, or ("", None)."""
        return super().lookup_path(path) if path in self._served else ("", None)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the file with the headers, or raise HTTPException (404)."""
        response = await super().get_response(path, scope)
        response.headers.update(self._headers)
        return response
