"""Rendering of pages: Jinja templates with autoescape, and the response headers of every page."""

import re
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from api.panel.frame.routes import menu_of
from api.panel.frame.sessions import CSRF_FIELD, PATH, BrowserToken, set_token
from api.panel.texts import TEXTS, t
from domain.access import role_of
from domain.delivery.failure_kinds import EXPLANATIONS
from domain.delivery.lifecycle import OPEN, DeliveryStatus, SubscriptionStatus
from domain.urls.targets import webhook_label, webhook_title
from domain.wire import jsontext

SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS = 1000, 60_000, 3_600_000, 86_400_000
_UNITS = ((DAY_MS, "d", HOUR_MS, "h"), (HOUR_MS, "h", MINUTE_MS, "min"), (MINUTE_MS, "min", SECOND_MS, "s"))


def milliseconds(value: float) -> str:
    """Format a duration in milliseconds in its two largest units."""
    whole = round(value)
    for unit, name, lesser, lesser_name in _UNITS:
        if whole >= unit:
            rest = whole % unit // lesser
            return f"{whole // unit} {name}" + (f" {rest} {lesser_name}" if rest else "")
    return f"{whole / SECOND_MS:.3g} s" if whole >= SECOND_MS else f"{whole} ms"


HERE = Path(__file__).parents[1]
STATIC = HERE / "static"
SERVED = (
    *sorted(str(file.relative_to(STATIC)) for file in STATIC.rglob("*") if file.is_file()),
    "css/vendor/fontawesome.min.css",
    "css/vendor/tabler.min.css",
    "js/vendor/tabler.min.js",
    "webfonts/fa-solid-900.woff2",
)
"""Files that pages load: our own, and the look of starlette-admin."""
THEME_COOKIE = "loyalty_webhooks_theme"
THEMES = ("light", "dark")
_POLICY = (
    "default-src 'self'; img-src 'self' data:; script-src 'self'; style-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Content security policy. `data:` images are ticks and arrows in Tabler's style sheet."""
_CODE = re.compile(r"`([^`]+)`")
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}


def pretty(body: str | bytes) -> str:
    """Indent a JSON text, and return other text unchanged."""
    text = body.decode() if isinstance(body, bytes) else body
    try:
        return jsontext.pretty(text)
    except jsontext.JsonTextError:
        return text


def coded(text: str) -> Markup:
    """Escape the text and convert parts `between backticks` to code elements."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - The text is escaped in this expression.


class Renderer:
    """Renderer of the panel's templates."""

    def __init__(self) -> None:
        own = (file.read_bytes() for file in sorted(STATIC.rglob("*")) if file.is_file())
        content = sha256(b"".join([version("starlette-admin").encode(), *own])).hexdigest()[:12]
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            local=lambda instant, zone: f"{instant.astimezone(zone):%Y-%m-%d %H:%M:%S}",
            utc=lambda instant: f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S UTC}",
            pretty=pretty,
            coded=coded,
            milliseconds=milliseconds,
            span=lambda value: milliseconds(value / timedelta(milliseconds=1)),
        )
        self._templates.globals.update(
            t=t,
            word=TEXTS.get,
            webhook_title=webhook_title,
            webhook_label=webhook_label,
            rendered_at=lambda: datetime.now(UTC).isoformat(),
            menu_of=menu_of,
            role_of=lambda scopes: role_of(frozenset(scopes)),
            form_id=uuid4,
            csrf_field=CSRF_FIELD,
            failures=EXPLANATIONS,
            DeliveryStatus=DeliveryStatus,
            SubscriptionStatus=SubscriptionStatus,
            OPEN=OPEN,
            static=lambda name: f"{PATH}/-/static/{name}?v={content}",
        )

    def page(self, request: Request, template: str, status: int, /, **values: Any) -> HTMLResponse:
        """Render a page. Of a logged-in person, `values` include `page`, which the frame needs."""
        theme = request.cookies.get(THEME_COOKIE)
        text = self._templates.get_template(template).render(theme=theme if theme in THEMES else None, **values)
        return HTMLResponse(text, status, HEADERS)

    def bare(
        self, request: Request, template: str, token: BrowserToken | None, status: int = 200, **values: Any
    ) -> Response:
        """Render a page without menu: the log-in or an error. `token` is for its form, if it has one."""
        csrf = "" if token is None else token.csrf
        response = self.page(request, template, status, csrf=csrf, **values)
        if token is not None and token.fresh:
            set_token(response, request, token.value)
        return response
