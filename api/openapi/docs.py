"""/openapi.json, and /docs: Swagger UI from the wheel's own files, on this origin; nothing is loaded from elsewhere."""

from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from api.openapi.document import TITLE, build
from domain.urls.rules import UrlRules
from domain.wire.jsontext import dump_bytes

# `unsafe-inline` for styles alone: Swagger UI sets them on its elements.
CONTENT_SECURITY_POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'"

_PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{TITLE}: API</title>
<link rel="icon" href="/docs/assets/favicon.png">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
});
"""


def add_docs(app: FastAPI, rules: UrlRules) -> None:
    """Serve the document and its page, to everyone: they hold nothing of any store."""
    written: list[bytes] = []

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi_document() -> Response:
        """The OpenAPI 3.1 document."""
        if not written:
            written.append(dump_bytes(build(app, rules)))  # its examples hold exact numbers
        return Response(written[0], media_type="application/json")

    @app.get("/docs", include_in_schema=False)
    async def docs_page() -> Response:
        """The page."""
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})

    @app.get("/docs/start.js", include_in_schema=False)
    async def docs_start() -> Response:
        """What starts Swagger UI; a file of its own, so that no inline script need be allowed."""
        return Response(_START, media_type="text/javascript")

    assets = Path(str(files("fastapi_offline"))) / "static"
    app.mount("/docs/assets", StaticFiles(directory=assets), name="docs-assets")
