"""The API's calls for all subscriptions of a store, and what their refusals mean to whoever typed the command.

ApiTrouble            the text says what is wrong and what to do
├── EntriesRefused    something in the file is wrong; nothing was done
├── PlanChanged       the store is not any more as it was when the plan was agreed to; nothing was done
└── NoAnswer          whether it was done is not known
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from api.subscription_sets.models import SetAnswer, StoredSet
from commands.target import Target
from local.event_sender import api_client

M = TypeVar("M", bound=BaseModel)

APPLY_SECONDS = 180.0  # of 500 URLs the names are looked up, each for at most a second, four at once


class ApiTrouble(Exception):  # noqa: N818 - reads as what happened
    """It did not work."""


class EntriesRefused(ApiTrouble):
    """The API finds something wrong with what was sent; `problems` are its errors."""

    def __init__(self, problems: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("The API refused the subscriptions.")
        self.problems = problems


class PlanChanged(ApiTrouble):
    """Somebody changed subscriptions since the plan was made."""


class NoAnswer(ApiTrouble):
    """The connection broke, or the time was over, before an answer came."""


class SubscriptionClient:
    """The subscriptions of one store. `async with` closes its connections."""

    def __init__(self, target: Target) -> None:
        """Raises ValueError when the API's root is no address."""
        self._target = target
        self._client = api_client(target.api, target.key)
        self._path = f"/api/{target.store}/webhook/subscription-set"

    async def __aenter__(self) -> "SubscriptionClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def read(self) -> StoredSet:
        """All of them; raises ApiTrouble."""
        return self._parsed(StoredSet, await self._ask("GET", None))

    async def apply(
        self, entries: Sequence[Any], *, prune: bool, dry_run: bool, expected_plan: str | None = None
    ) -> SetAnswer:
        """Bring the store to these entries; raises ApiTrouble."""
        wanted = {"subscriptions": entries, "prune": prune, "dryRun": dry_run, "expectedPlan": expected_plan}
        return self._parsed(SetAnswer, await self._ask("POST", {"subscriptionSet": wanted}))

    async def _ask(self, method: str, body: Any) -> httpx.Response:
        root = self._target.api
        try:
            response = await self._client.request(method, self._path, json=body, timeout=APPLY_SECONDS)
        except httpx.ConnectError as error:
            raise ApiTrouble(f"{root} cannot be reached: {error}. Is it running?") from None
        except httpx.RequestError as error:
            raise NoAnswer(f"{root} gave no answer: {str(error) or type(error).__name__}.") from None
        if response.status_code != httpx.codes.OK:
            raise self._trouble(response)
        return response

    def _trouble(self, response: httpx.Response) -> ApiTrouble:
        status, told = response.status_code, _body(response)
        root, store = self._target.api, self._target.store
        if status == httpx.codes.BAD_REQUEST and told.get("errors"):
            return EntriesRefused(told["errors"])
        if status == httpx.codes.CONFLICT:
            return PlanChanged(str(told.get("message", "")))
        reasons = {
            401: "the key is not accepted (--key, LOYALTY_WEBHOOKS_KEY)",
            403: "this key lacks a right: subscription:read to export, subscription:write to compare and to apply",
            404: f"there is no store {store!r}, or this key may not enter it (--store); or the API is an older one",
        }
        reason = reasons.get(status) or told.get("message") or "is this the root of a loyalty-webhooks API?"
        return ApiTrouble(f"{root} answered {status}: {str(reason).rstrip('.')}.")

    def _parsed(self, model: type[M], response: httpx.Response) -> M:
        try:
            return model.model_validate_json(response.content)
        except ValidationError:
            raise NoAnswer(f"{self._target.api} answered something else: is it an API of another version?") from None


def _body(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
