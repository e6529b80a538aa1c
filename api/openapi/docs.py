"""Routes /openapi.json and /docs. Swagger UI comes from an installed package; pages load nothing of other origins."""

from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from api.openapi.document import TITLE, build
from domain.urls.rules import UrlRules
from domain.wire.jsontext import dump_bytes

# `unsafe-inline` is needed for styles only: Swagger UI sets them on its elements.
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
    """Serve the document and its page without authentication: they contain no data of a store."""
    written: list[bytes] = []

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi_document() -> Response:
        """Return the OpenAPI 3.1 document."""
        if not written:
            written.append(dump_bytes(build(app, rules)))  # dump_bytes keeps the exact numbers of the examples
        return Response(written[0], media_type="application/json")

    @app.get("/docs", include_in_schema=False)
    async def docs_page() -> Response:
        """Return the page with Swagger UI."""
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})

    @app.get("/docs/start.js", include_in_schema=False)
    async def docs_start() -> Response:
        """Return the script that starts Swagger UI, a separate file so that the policy can forbid inline scripts."""
        return Response(_START, media_type="text/javascript")

    assets = Path(str(files("fastapi_offline"))) / "static"
    app.mount("/docs/assets", StaticFiles(directory=assets), name="docs-assets")
