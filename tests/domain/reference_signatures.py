"""The signatures once more, written from the contract alone and sharing no code with the product.

`python -m tests.domain.reference_signatures` writes `docs/signature-vectors.json` anew.
"""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[2] / "docs" / "signature-vectors.json"

# 32 bytes each: 0…31 and 255…224
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(255, 223, -1))).decode()
EVENT_ID = "0190a5c2-7d1e-7cc3-98c4-dc0c0c07398f"
MESSAGE_ID = "5f3c1a0e-8f52-5b1c-9d55-2f6f4c1f8a11"
REQUEST_ID = "c1b2a3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d"
MODERN_BODY = (
    f'{{"messageId":"{MESSAGE_ID}","requestId":"{REQUEST_ID}","eventName":"CustomerDeactivated","storeCode":"default",'
    '"createdAt":"2026-01-02T03:04:05Z","data":{"customer":{"customerId":"00000000-0000-474c-b092-b0dd880c07e1"}}}'
)


def platform_text(vector: dict[str, Any]) -> str:
    """Section 2 of the contract: METHOD, {len}:{host}, {len}:{path}, body digest, timestamp, request id."""
    parts = [vector["method"]]
    for name in ("host", "path"):
        parts.append(str(len(vector[name].encode("utf-8"))) + ":" + vector[name])
    parts.append(hashlib.sha256(vector["body"].encode("utf-8")).hexdigest().lower())
    parts.append(str(vector["timestamp"]))
    parts.append(vector["requestId"])
    return "\n".join(parts)


def platform_signature(vector: dict[str, Any]) -> str:
    """Hex HMAC-SHA256, keyed with the text behind `whsec_`."""
    key = vector["secret"].removeprefix("whsec_").encode("utf-8")
    return hmac.new(key, platform_text(vector).encode("utf-8"), hashlib.sha256).hexdigest()


def standard_text(vector: dict[str, Any]) -> str:
    """Standard Webhooks: id, timestamp and body, joined by dots."""
    return ".".join([vector["messageId"], str(vector["timestamp"]), vector["body"]])


def standard_signature(vector: dict[str, Any]) -> str:
    """One `v1,` entry for each key, the new one first; keyed with the bytes the key encodes."""
    entries = []
    for secret in filter(None, [vector["secret"], vector["previousSecret"]]):
        key = base64.b64decode(secret.split("_", 1)[1])
        digest = hmac.new(key, standard_text(vector).encode("utf-8"), "sha256").digest()
        entries.append("v1," + base64.b64encode(digest).decode("ascii"))
    return " ".join(entries)


def expected_headers(vector: dict[str, Any]) -> dict[str, str]:
    """The eight headers of a signed delivery."""
    return {
        "X-Webhook-Signature": platform_signature(vector),
        "X-Webhook-Signature-Algorithm": "hmac-sha256",
        "X-Webhook-Timestamp": str(vector["timestamp"]),
        "X-Webhook-Request-Id": vector["requestId"],
        "X-Webhook-Signature-Version": str(vector["version"]),
        "webhook-id": vector["messageId"],
        "webhook-timestamp": str(vector["timestamp"]),
        "webhook-signature": standard_signature(vector),
    }


def _vector(name: str, **changes: Any) -> dict[str, Any]:
    vector: dict[str, Any] = {
        "name": name,
        "method": "POST",
        "url": "https://example.com/hook",
        "host": "example.com",
        "path": "/hook",
        "body": MODERN_BODY,
        "timestamp": 1767323045,
        "messageId": MESSAGE_ID,
        "requestId": REQUEST_ID,
        "secret": SECRET,
        "previousSecret": None,
        "version": 1,
    } | changes
    return vector | {"platformText": platform_text(vector), "headers": expected_headers(vector)}


def vectors() -> list[dict[str, Any]]:
    """All cases of the committed file."""
    legacy = '{"type":"customer.deactivated","data":{"customerId":"00000000-0000-474c-b092-b0dd880c07e1"}}'
    return [
        _vector("a modern delivery"),
        _vector("a legacy delivery", body=legacy),
        _vector("no path in the URL", url="https://example.com/", path="/"),
        _vector("the query is not signed", url="https://example.com/hook?shop=1&x=a+b"),
        _vector("a port other than the default", url="https://example.com:8443/hook", host="example.com:8443"),
        _vector("an IPv6 address", url="https://[2606:4700::1111]:8443/hook", host="[2606:4700::1111]:8443"),
        _vector(
            "an internationalised host and path",
            url="https://xn--mnchen-3ya.example.com/%C3%A4/a%2Fb/~0",
            host="xn--mnchen-3ya.example.com",
            path="/%C3%A4/a%2Fb/~0",
        ),
        _vector("a body beyond ASCII", body='{"name":"Grüße, 漢字 😀 שלום"}'),
        _vector("a body with line feeds and spaces", body='{\n  "a": 1\n}\n'),
        _vector("exact numbers", body='{"amount":10.10,"points":12345678901234567890,"rate":1E+2,"zero":-0}'),
        _vector("an empty body", body=""),
        _vector("another attempt", timestamp=1767323345, requestId="11111111-2222-4333-8444-555555555555"),
        _vector("after a rotation, within 24 hours", secret=OTHER_SECRET, previousSecret=SECRET, version=2),
        _vector("after a rotation, later", secret=OTHER_SECRET, version=2),
        _vector("the seventh key", version=7),
    ]


def render() -> str:
    """The text of the committed file."""
    document = {
        "about": (
            "Signatures of deliveries. `host` is the Host header, `path` the path on the request line without the "
            "query, `body` the bytes sent, as UTF-8. `platformText` is what X-Webhook-Signature covers. "
            "`previousSecret` is the key before a rotation, for 24 hours. The keys are made up."
        ),
        "vectors": vectors(),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    VECTORS.write_text(render(), encoding="utf-8")
