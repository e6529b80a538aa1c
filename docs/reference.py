"""The reference pages of the HTTP API, the events and the wire contract, from the code that carries them out."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from fastapi.routing import APIRoute, iter_route_contexts

from api.app import create_app
from api.listing import CURSOR, ITEMS, ITEMS_DEFAULT, ITEMS_MOST, ORDER, PAGE
from api.openapi.document import FIXED, build, dependencies
from domain.events.catalogue import CATALOGUE
from domain.events.event_type import EventType
from domain.events.examples import EXAMPLE_TIMEZONE, legacy_example, modern_example
from domain.wire.headers import (
    HEADERS_MOST,
    NAME_MOST_CHARACTERS,
    REFUSED_NAMES,
    REFUSED_PREFIXES,
    VALUE_MOST_CHARACTERS,
)
from domain.wire.jsontext import JsonValue, dump, pretty
from domain.wire.legacy import Conversion, Each, Leaf, Shape, UnlessEmpty
from settings import Settings
from storage.listing import Operator

Schema = Mapping[str, Any]
_SECRETS: dict[str, Any] = {"database_url": "postgresql://", "encryption_keys": "A" * 43 + "=", "jwt_secrets": "-" * 32}


@cache
def _api() -> tuple[dict[str, Any], Mapping[str, str]]:
    """Return the OpenAPI document, and the right that each operation needs, by its id."""
    settings = Settings(_env_file=None, **_SECRETS)
    app = create_app(settings)
    document = build(app, settings.url_rules)
    rights = {}
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, APIRoute) and route.include_in_schema:
            scopes = [scope for call in dependencies(route.dependant) if (scope := getattr(call, "scope", None))]
            for method in route.methods or ():
                operation = document["paths"][context.path_format][method.lower()]
                rights[operation["operationId"]] = ", ".join(f"`{scope}`" for scope in dict.fromkeys(scopes))
    return document, rights


def _operations(tag: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in _api()[0]["paths"].items():
        for method, operation in item.items():
            if tag in operation["tags"]:
                yield method.upper(), path, operation


def api_page() -> str:
    """Render every operation with its right, body and responses, and every schema that they name."""
    document, rights = _api()
    lines = [
        "# The HTTP API",
        "",
        "Every call of the API, from its OpenAPI document. A running API serves the document at `/openapi.json`, and a",
        "page to try calls on at `/docs`. [The wire contract](contract.md#the-http-api) has the rules of all calls:",
        "authentication, errors, lists. Clients are generated from the document: [examples](../examples/README.md).",
        "Generated from the code by `make docs`.",
    ]
    for tag in document["tags"]:
        lines += ["", f"## {tag['name'][0].upper()}{tag['name'][1:]}", "", tag["description"]]
        for method, path, operation in _operations(tag["name"]):
            lines += ["", *_operation(method, path, operation, rights[operation["operationId"]])]
    lines += ["", "## Schemas", "", "The objects of requests and responses."]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += ["", f"### {name}", "", *_schema(schema)]
    return "\n".join(lines) + "\n"


def _operation(method: str, path: str, operation: Schema, right: str) -> Iterator[str]:
    needs = f" Needs the right {right}." if right else ""
    yield f"### {operation['summary']}"
    yield ""
    yield f"`{method} {path}`, operation `{operation['operationId']}`.{needs}"
    yield ""
    yield _text(operation["description"])
    parameters = [one for one in operation.get("parameters", ()) if one["name"] != "storeCode"]
    if filters := _names(one["name"] for one in parameters if "[" in one["name"] and not one["name"].startswith("_")):
        yield ""
        yield f"Filters ([grammar](contract.md#lists)): {filters}."
    if orders := _names(one["name"] for one in parameters if one["name"].startswith(f"{ORDER}[")):
        yield ""
        yield f"Order: {orders}."
    plain = [one for one in parameters if "[" not in one["name"] and f"`{one['name']}`" not in filters]
    if plain:
        yield from ("", "| parameter | in | type | meaning |", "| --- | --- | --- | --- |")
    for one in plain:
        required = "" if one.get("required") else ", optional"
        meaning = _text(one.get("description", ""))
        yield f"| `{one['name']}` | {one['in']}{required} | {_type(one['schema'])} | {meaning} |"
    if body := operation.get("requestBody"):
        content = body["content"]["application/json"]
        others = [f"`{kind}`" for kind in body["content"] if kind != "application/json"]
        yield ""
        yield f"Body: {_type(content['schema'])}{'; also as ' + ', '.join(others) if others else ''}."
        if "example" in content:
            yield from ("", "```json", json.dumps(content["example"], indent=2, ensure_ascii=False), "```")
    yield ""
    good = {code: one for code, one in operation["responses"].items() if code.startswith("2")}
    yield f"Success: {', '.join(_response(code, one) for code, one in good.items())}."
    refusals = ", ".join(code for code in operation["responses"] if code not in good)
    if refusals:
        yield f"[Errors](contract.md#errors): {refusals}."


def _names(names: Iterator[str]) -> str:
    inner = (name.partition("[")[2].rstrip("]") if name.startswith("_") else name.partition("[")[0] for name in names)
    return ", ".join(f"`{name}`" for name in dict.fromkeys(inner))


def _response(code: str, response: Schema) -> str:
    content = response.get("content", {}).get("application/json", {}).get("schema")
    return f"{code} {_type(content)}" if content else code


def _schema(schema: Schema) -> Iterator[str]:
    if "description" in schema:
        yield _text(schema["description"])
        yield ""
    if "properties" not in schema:
        yield f"{_type({**schema, 'description': ''})}."
        return
    yield from ("| field | type | meaning |", "| --- | --- | --- |")
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        optional = "" if name in required else ", optional"
        yield f"| `{name}` | {_type(field)}{optional} | {_text(_meaning(field))} |"


def _meaning(field: Schema) -> str:
    words = [field.get("description", "")]
    if field.get("default") is not None:
        words.append(f"Default: `{json.dumps(field['default'])}`.")
    return " ".join(word for word in words if word)


_LIMITS = (("minimum", "at least"), ("maximum", "at most"), ("maxLength", "at most", "characters"))
MOST_VALUES = 8


def _type(schema: Schema) -> str:
    """Return the type of a value in words, with a link to a schema of its own."""
    match schema:
        case {"$ref": reference}:
            name = reference.rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        case {"anyOf": parts} | {"oneOf": parts}:
            return " or ".join(dict.fromkeys(_type(part) for part in parts))
        case {"const": value} | {"enum": [value]}:
            return f"`{json.dumps(value)}`"
        case {"type": "array"}:
            return f"list of {_type(schema.get('items', {}))}"
        case {"type": "object", "properties": properties}:
            return ", ".join(f"`{name}`: {_type(part)}" for name, part in properties.items())
        case _:
            return _simple_type(schema)


def _simple_type(schema: Schema) -> str:
    if values := schema.get("enum"):
        some = ", ".join(f"`{value}`" for value in values)
        return some if len(values) <= MOST_VALUES else f"one of {len(values)} names"
    kind = schema.get("type", "any value")
    limits = [f"{words[0]} {schema[key]:,} {' '.join(words[1:])}".strip() for key, *words in _LIMITS if key in schema]
    named = schema.get("format", kind) if kind == "string" else kind
    return ", ".join([" or ".join(named) if isinstance(named, list) else str(named), *limits])


def _text(words: str) -> str:
    return re.sub(r"\s+", " ", words).replace("|", r"\|").strip()


def events_page() -> str:
    """Render every event of the catalogue: what to emit, and what receivers get in both formats."""
    lines = [
        "# Events",
        "",
        "The events that a store may emit and a webhook may subscribe to, with a sample each, and the bodies that",
        "receivers get of it, indented here. Fields are optional; unknown ones are refused unless the installation",
        "allows them. `GET /api/{storeCode}/webhook/event/{eventName}` returns the JSON Schema of the data and the",
        "same bodies; so does the page *Events* of the panel. The legacy bodies are those of a store in the time",
        f"zone {EXAMPLE_TIMEZONE}; the tables say where their values come from.",
        "Generated from `domain/events/families/` by `make docs`.",
        "",
        "| event | legacy `type` | |",
        "| --- | --- | --- |",
    ]
    for event in CATALOGUE.values():
        legacy = "" if event.legacy is None else f"`{event.legacy.type}`"
        lines.append(f"| [{event.name}](#{event.name.lower()}) | {legacy} | {_of_event(event)} |")
    for event in CATALOGUE.values():
        lines += ["", *_event(event)]
    return "\n".join(lines) + "\n"


def _of_event(event: EventType) -> str:
    made = " Emitted by [a daily scan](expiring.md), or by the platform." if event.scheduled else ""
    return f"{event.description}{made}"


def _event(event: EventType) -> Iterator[str]:
    yield from (f"## {event.name}", "", _of_event(event), "", "The `data` to emit:", "")
    yield from ("```json", pretty(dump(event.sample)), "```")
    yield from _folded("The modern body", modern_example(event))
    if event.legacy_only:
        names = ", ".join(f"`{name}`" for name in sorted(event.legacy_only))
        yield from ("", f"Only in the legacy body: {names}.")
    if event.secrets:
        names = ", ".join(f"`{'.'.join(path)}`" for path in event.secrets)
        yield from ("", f"Secret, whole on the wire and `•••` everywhere else: {names}.")
    if event.legacy is None:
        yield from ("", "No legacy form.")
        return
    second = event.legacy.second
    for variant in ("main",) if second is None else ("main", second.variant):
        type_, shape, created_at = event.legacy_parts(variant)
        also = "" if variant == "main" or second is None else f", a second delivery if `{second.when}` is true"
        yield from ("", f"Legacy `{type_}`{also}:")
        yield from _folded("The legacy body", legacy_example(event, variant))
        yield from ("", "| key | from | |", "| --- | --- | --- |")
        if created_at:
            yield "| `createdAt` | the event's `createdAt` | between `type` and `data`, in the store's time zone |"
        for key, leaf, optional in _leaves(shape, "data"):
            sources = " or ".join(f"`{'.'.join(path)}`" for path in leaf.paths)
            notes = filter(None, (_CONVERTED[leaf.conversion], optional))
            yield f"| `{key}` | {sources} | {'; '.join(notes)} |"


def _folded(summary: str, body: JsonValue) -> Iterator[str]:
    """Yield a body that the reader unfolds, on code hosts and on the site."""
    yield from ("", f'<details markdown="1"><summary>{summary}</summary>', "")
    yield from ("```json", pretty(dump(body)), "```", "", "</details>")


_CONVERTED: Mapping[Conversion, str] = {
    Conversion.AS_IT_IS: "",
    Conversion.PLAIN_NUMBER: "without trailing zeros",
    Conversion.WITHOUT_SIGN: "never negative",
    Conversion.ROUNDED: "two decimals, rounded half up",
    Conversion.LOCAL_TIME: "in the store's time zone, whole seconds",
    Conversion.UNIX_TIME: "Unix seconds",
    Conversion.FIRST_TRUE: "the first that is true",
    Conversion.STORE_CODE: "the store's code",
}


def _leaves(shape: Shape, key: str) -> Iterator[tuple[str, Leaf, str]]:
    """Yield each value of a legacy body with its dotted key, and a note if its object may be left out; `[]` is an entry
    of an array."""
    match shape:
        case Leaf():
            yield key, shape, ""
        case Each():
            for inner, leaf, optional in _leaves(shape.entry, f"{key}[]"):
                yield inner, _within(leaf, shape.path), optional
        case UnlessEmpty():
            for inner, leaf, _ in _leaves(shape.members, key):
                yield inner, leaf, f"`{key}` is left out if it is empty"
        case Mapping():
            for name, part in shape.items():
                yield from _leaves(part, f"{key}.{name}")
        case _:
            for part in shape:
                yield from _leaves(part, f"{key}[]")


def _within(leaf: Leaf, path: tuple[str, ...]) -> Leaf:
    steps = (*path[:-1], f"{path[-1]}[]") if path else path
    return Leaf(leaf.value, leaf.schema, tuple((*steps, *inner) for inner in leaf.paths), leaf.conversion)


def contract_parts() -> Mapping[str, list[str]]:
    """Return the lines of each part of the contract that the code knows, by the name of its marker."""
    fields = _schema(_api()[0]["components"]["schemas"]["SubscriptionCreate"])
    return {
        "retries": _retries(_default("retry_schedule_seconds")),
        "signature headers": [
            "| header | value |",
            "| --- | --- |",
            *(f"| `{header['name']}` | {_text(header['description'])} |" for header in FIXED["signatureHeaders"]),
        ],
        "modern example": ["```json", pretty(dump(modern_example(CATALOGUE["CustomerDeactivated"]))), "```"],
        "legacy example": ["```json", pretty(dump(legacy_example(CATALOGUE["CustomerDeactivated"]))), "```"],
        "own headers": [
            f"At most {HEADERS_MOST}, names of {NAME_MOST_CHARACTERS}, values of {VALUE_MOST_CHARACTERS:,} characters. "
            "The sender sets these itself and refuses them: "
            + ", ".join(f"`{name}`" for name in sorted(REFUSED_NAMES))
            + ", and names that begin with "
            + " or ".join(f"`{prefix}`" for prefix in REFUSED_PREFIXES)
            + ".",
        ],
        "lists": [
            f"`{PAGE}` (from 1) or `{CURSOR}`, `{ITEMS}` (default {ITEMS_DEFAULT}, at most {ITEMS_MOST}),",
            f"`{ORDER}[field]=asc` or `desc`, and filters",
            f"`field=value` or `field[op]=value` with {', '.join(f'`{one}`' for one in Operator)}.",
        ],
        "calls": list(_calls()),
        "fields": [line.replace("](#", "](api.md#") for line in fields][2:],
    }


def _retries(delays: Sequence[int]) -> list[str]:
    return [f"`{' '.join(map(str, delays))}`: {len(delays) + 1} attempts within {sum(delays) / 3600:.0f} hours."]


def _default(name: str) -> Any:
    return Settings.model_fields[name].get_default()


def _calls() -> Iterator[str]:
    yield from ("| call | method and path | success |", "| --- | --- | --- |")
    for tag in _api()[0]["tags"]:
        for method, path, operation in _operations(tag["name"]):
            good = ", ".join(code for code in operation["responses"] if code.startswith("2"))
            link = re.sub(r"[^\w\- ]", "", operation["summary"].lower()).replace(" ", "-")
            yield f"| [{operation['summary']}](api.md#{link}) | `{method} {path}` | {good} |"


MARKED = re.compile(r"(<!-- ([a-z ]+) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def contract_page(text: str) -> str:
    """Return the text of the page with each part between its markers. Raises KeyError for an unknown marker."""
    parts = contract_parts()
    return MARKED.sub(lambda place: "\n".join([place[1], *parts[place[2]], "", place[3]]), text)
