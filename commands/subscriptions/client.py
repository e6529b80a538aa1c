"""API client for the whole set of subscriptions of a store.

ApiTrouble            the message names problem and remedy
├── EntriesRefused    the file has errors; nothing was done
├── PlanChanged       the store changed after the plan was confirmed; nothing was done
└── NoAnswer          the outcome is unknown
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from api.subscription_sets.models import SetAnswer, StoredSet
from commands.target import Target
from local.event_sender import api_client

M = TypeVar("M", bound=BaseModel)

APPLY_SECONDS = 180.0
"""Timeout of a request. The API resolves the hosts of up to 500 URLs, at most a second each, four at a time."""


class ApiTrouble(Exception):  # noqa: N818 - reads as what happened
    """Failure of a call to the API."""


class EntriesRefused(ApiTrouble):
    """The API refused the entries; `problems` are its errors."""

    def __init__(self, problems: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("The API refused the subscriptions.")
        self.problems = problems


class PlanChanged(ApiTrouble):
    """Another client changed subscriptions after the plan was made."""


class NoAnswer(ApiTrouble):
    """The connection broke or the request timed out before a response arrived."""


class SubscriptionClient:
    """Client for the subscriptions of one store. Use as an async context manager."""

    def __init__(self, target: Target) -> None:
        """Raises ValueError if the API's root is not an address."""
        self._target = target
        self._client = api_client(target.api, target.key)
        self._path = f"/api/{target.store}/webhook/subscription-set"

    async def __aenter__(self) -> "SubscriptionClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def read(self) -> StoredSet:
        """Return all subscriptions of the store. Raises ApiTrouble."""
        return self._parsed(StoredSet, await self._ask("GET", None))

    async def apply(
        self, entries: Sequence[Any], *, prune: bool, dry_run: bool, expected_plan: str | None = None
    ) -> SetAnswer:
        """Make the store's subscriptions match the entries. Raises ApiTrouble."""
        wanted = {"subscriptions": entries, "prune": prune, "dryRun": dry_run, "expectedPlan": expected_plan}
        return self._parsed(SetAnswer, await self._ask("POST", {"subscriptionSet": wanted}))

    async def _ask(self, method: str, body: Any) -> httpx.Response:
        root = self._target.api
        try:
            response = await self._client.request(method, self._path, json=body, timeout=APPLY_SECONDS)
        except httpx.ConnectError as error:
            raise ApiTrouble(f"{root} cannot be reached: {error}. Is it running?") from None
        except httpx.RequestError as error:
            raise NoAnswer(f"{root} did not answer: {str(error) or type(error).__name__}.") from None
        if response.status_code != httpx.codes.OK:
            raise self._trouble(response)
        return response

    def _trouble(self, response: httpx.Response) -> ApiTrouble:
        status, body = response.status_code, _body(response)
        root, store = self._target.api, self._target.store
        if status == httpx.codes.BAD_REQUEST and body.get("errors"):
            return EntriesRefused(body["errors"])
        if status == httpx.codes.CONFLICT:
            return PlanChanged(str(body.get("message", "")))
        reasons = {
            401: "the key is not accepted (--key, LOYALTY_WEBHOOKS_KEY)",
            403: "this key lacks a right: subscription:read to export, subscription:write to compare and to apply",
            404: f"there is no store {store!r}, this key has no access to it (--store), or the API is too old",
        }
        reason = reasons.get(status) or body.get("message") or "is this the root of a loyalty-webhooks API?"
        return ApiTrouble(f"{root} answered {status}: {str(reason).rstrip('.')}.")

    def _parsed(self, model: type[M], response: httpx.Response) -> M:
        try:
            return model.model_validate_json(response.content)
        except ValidationError:
            raise NoAnswer(f"{self._target.api} sent an unexpected response: is it another version?") from None


def _body(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
