"""Setup of the Temporal namespace: creation, retention and search attributes."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, RegisterNamespaceRequest, UpdateNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from temporal.client import found_or_none
from temporal.visibility import SEARCH_ATTRIBUTES, shown_kind

DEFAULT_RETENTION_DAYS = 4
"""Retention of ended workflows and activities: longer than the retry schedule of three days, so that an operator finds
the first attempts of a delivery that is still retrying. Delivered ones are in the delivery log."""

KNOWN_SECONDS = 60.0
"""Maximum wait for a new namespace, which every part of a server knows within some ten seconds."""

PAUSE_SECONDS = 0.5

CALL_SECONDS = timedelta(seconds=10)

CLOUD = re.compile(r"\.(tmprl\.cloud|api\.temporal\.io)(:\d+)?$")

KINDS: dict[int, str] = {number: name.removeprefix("INDEXED_VALUE_TYPE_") for name, number in IndexedValueType.items()}

Say = Callable[[str], None]


class SetupError(Exception):
    """The setup is incomplete. The text names the missing part and the remedy."""


async def set_up(client: Client, *, retention_days: int | None, dry_run: bool, say: Say) -> None:
    """Create missing parts of the namespace and report each step to `say`. Existing parts stay as they are.
    `retention_days` None: DEFAULT_RETENTION_DAYS for a new namespace, no change of an existing one. Temporal Cloud does
    not allow this over this connection; there, SetupError names the commands to run. Raises SetupError."""
    address = client.service_client.config.target_host
    try:
        if CLOUD.search(address):
            await _compare_in_the_cloud(client, retention_days, say)
            return
        if not await _namespace(client, retention_days, dry_run, say):
            say(f"Search attributes {', '.join(SEARCH_ATTRIBUTES)} would be made.")
            return
        await _search_attributes(client, dry_run, say)
    except RPCError as error:
        raise SetupError(_explained(error, address)) from error


async def _namespace(client: Client, retention_days: int | None, dry_run: bool, say: Say) -> bool:
    """Create the namespace or set its retention. Return False if it does not exist after a dry run."""
    name, service = client.namespace, client.workflow_service
    days = retention_days or DEFAULT_RETENTION_DAYS
    wanted = Duration(seconds=days * 86400)
    found = await _retention_days(client)
    if found is None:
        if dry_run:
            say(f"Namespace {name} would be made, with a retention of {days} days.")
            return False
        request = RegisterNamespaceRequest(
            namespace=name, description="Webhook delivery", workflow_execution_retention_period=wanted
        )
        try:
            await service.register_namespace(request, timeout=CALL_SECONDS)
        except RPCError as error:
            if error.status is not RPCStatusCode.ALREADY_EXISTS:  # another process has just created it
                raise
        say(f"Namespace {name} was made, with a retention of {days} days.")
    elif retention_days in (None, found):
        say(f"Namespace {name} is there, with a retention of {found:g} days.")
    elif dry_run:
        say(f"The retention of namespace {name} would change from {found:g} to {days} days.")
    else:
        config = NamespaceConfig(workflow_execution_retention_ttl=wanted)
        await service.update_namespace(UpdateNamespaceRequest(namespace=name, config=config), timeout=CALL_SECONDS)
        say(f"The retention of namespace {name} was changed from {found:g} to {days} days.")
    return True


async def _retention_days(client: Client) -> float | None:
    """Return the retention of the namespace; None if it does not exist."""
    request = DescribeNamespaceRequest(namespace=client.namespace)
    found = await found_or_none(client.workflow_service.describe_namespace(request, timeout=CALL_SECONDS))
    return None if found is None else found.config.workflow_execution_retention_ttl.ToTimedelta() / timedelta(days=1)


async def _search_attributes(client: Client, dry_run: bool, say: Say) -> None:
    missing = missing_attributes(await _known(client))
    if not missing:
        say(f"Search attributes {', '.join(SEARCH_ATTRIBUTES)} are there.")
        return
    if dry_run:
        say(f"Search attributes {', '.join(missing)} would be made.")
        return
    request = AddSearchAttributesRequest(
        namespace=client.namespace,
        search_attributes={name: IndexedValueType.ValueType(SEARCH_ATTRIBUTES[name]) for name in missing},
    )
    try:
        await client.operator_service.add_search_attributes(request, timeout=CALL_SECONDS)
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise
    until = time.monotonic() + KNOWN_SECONDS
    while missing_attributes(await _known(client)):
        if time.monotonic() > until:
            raise SetupError(f"Search attributes {', '.join(missing)} were made and are not known after a minute.")
        await asyncio.sleep(PAUSE_SECONDS)
    say(f"Search attributes {', '.join(missing)} were made.")


async def _known(client: Client) -> Mapping[str, int]:
    """Return the custom search attributes of the namespace with their kinds. Waits for a new namespace."""
    until = time.monotonic() + KNOWN_SECONDS
    while True:
        try:
            answer = await client.operator_service.list_search_attributes(
                ListSearchAttributesRequest(namespace=client.namespace), timeout=CALL_SECONDS
            )
            return dict(answer.custom_attributes)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND or time.monotonic() > until:
                raise
        await asyncio.sleep(PAUSE_SECONDS)


def missing_attributes(known: Mapping[str, int]) -> list[str]:
    """Return the missing search attributes. Raises SetupError for one of another kind."""
    for name, kind in SEARCH_ATTRIBUTES.items():
        if known.get(name, kind) != kind:
            raise SetupError(
                f"Search attribute {name} is there as {KINDS[known[name]]}; {kind.name} is needed. Its kind cannot be "
                f"changed. If nothing else uses it: temporal operator search-attribute remove --name {name}, then set "
                "up again; else give this product a namespace of its own (TEMPORAL_NAMESPACE)."
            )
    return [name for name in SEARCH_ATTRIBUTES if name not in known]


async def _compare_in_the_cloud(client: Client, retention_days: int | None, say: Say) -> None:
    try:
        missing = missing_attributes(await _known(client))
    except RPCError as error:
        if error.status not in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED):
            raise
        say(f"Which search attributes {client.namespace} has cannot be read with these credentials.")
        missing = list(SEARCH_ATTRIBUTES)
    commands = cloud_commands(client.namespace, missing, retention_days)
    if commands:
        raise SetupError("\n".join(commands))
    say(f"Namespace {client.namespace} of Temporal Cloud has its search attributes.")


def cloud_commands(namespace: str, missing: list[str], retention_days: int | None) -> list[str]:
    """Return instructions for an administrator of Temporal Cloud; empty if there is nothing to do."""
    commands = []
    if missing:
        attributes = " ".join(f"--search-attribute {name}={shown_kind(name)}" for name in missing)
        commands.append(f"  tcld namespace search-attributes add --namespace {namespace} {attributes}")
    if retention_days is not None:
        commands.append(f"  tcld namespace retention set --namespace {namespace} --retention-days {retention_days}")
    if not commands:
        return []
    return [
        "Temporal Cloud lets only its own tools change a namespace. Run, as an administrator of it:",
        *commands,
        f"or in its Web UI: Namespaces, {namespace}, Edit (search attributes, retention).",
    ]


def _explained(error: RPCError, address: str) -> str:
    match error.status:
        case RPCStatusCode.PERMISSION_DENIED | RPCStatusCode.UNAUTHENTICATED:
            cure = "Use the credentials of an administrator: TEMPORAL_API_KEY, or TEMPORAL_TLS_CLIENT_CERT_PATH and "
            return f"Temporal at {address} does not allow this: {error.message}. {cure}TEMPORAL_TLS_CLIENT_KEY_PATH."
        case RPCStatusCode.UNAVAILABLE | RPCStatusCode.DEADLINE_EXCEEDED | RPCStatusCode.CANCELLED:
            return f"Temporal at {address} does not answer: {error.message}. Is TEMPORAL_ADDRESS right?"
        case RPCStatusCode.INVALID_ARGUMENT:
            return (
                f"Temporal at {address} refuses: {error.message}. A namespace on an SQL database holds three search "
                "attributes of type KeywordList; if others have taken them, name one of its own in TEMPORAL_NAMESPACE."
            )
        case _:
            return f"Temporal at {address} answered {error.status.name}: {error.message}."
