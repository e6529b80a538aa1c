"""`loyalty-webhooks subscription …` and `delivery …`: operator actions on one subscription or delivery."""

import time
from typing import Annotated, Any
from uuid import UUID

import typer

from commands.actions.client import EXIT_REFUSED, ActionClient
from commands.complaints import complain
from commands.target import ApiOption, DataDirectoryOption, KeyOption, StoreOption, find_target
from domain.delivery.failure_kinds import EXPLANATIONS, FailureKind
from domain.delivery.lifecycle import DeliveryStatus
from local.data_directory import DEFAULT_DATA_DIRECTORY

TEST_SECONDS = 30.0
"""Time to wait for the outcome of a test. An attempt takes 15 s at most."""

POLL_SECONDS = 0.2

subscription = typer.Typer(help="One subscription: pause, resume, disable, enable, send a test.", no_args_is_help=True)
delivery = typer.Typer(help="One delivery: redeliver, send now, cancel.", no_args_is_help=True)

SubscriptionId = Annotated[UUID, typer.Argument(metavar="SUBSCRIPTION", help="Subscription id.")]
MessageId = Annotated[UUID, typer.Argument(metavar="DELIVERY", help="Delivery id (`messageId`).")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(subscription, name="subscription")
    app.add_typer(delivery, name="delivery")


def _status_command(action: str, help_text: str, done: str) -> None:
    @subscription.command(action, help=help_text)
    def change(
        subscription_id: SubscriptionId,
        store: StoreOption = None,
        api: ApiOption = None,
        key: KeyOption = None,
        data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
    ) -> None:
        details = ActionClient(find_target(api, key, store, data_dir)).post(f"subscription/{subscription_id}/{action}")
        typer.echo(f"{details['eventName']} → {details['url']} is {details['status']}. {done}")


_status_command(
    "pause",
    "Hold the subscription's deliveries; none is lost.",
    "Its deliveries are held until `loyalty-webhooks subscription resume`.",
)
_status_command(
    "resume", "End a pause and send the held deliveries, oldest first.", "Held deliveries go out, oldest first."
)
_status_command(
    "disable",
    "Stop sending: waiting and new deliveries end as exhausted.",
    "Waiting and new deliveries end as exhausted; after enabling, `loyalty-webhooks recover` redelivers them.",
)
_status_command(
    "enable",
    "Send again and reset the health counters.",
    "Deliveries that ended meanwhile stay ended; `loyalty-webhooks recover` redelivers them.",
)


@subscription.command("send-test")
def send_test(
    subscription_id: SubscriptionId,
    store: StoreOption = None,
    api: ApiOption = None,
    key: KeyOption = None,
    data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
) -> None:
    """Send the event's sample once, marked as a test, and show the receiver's response.

    Exit code 0: delivered. 1: failed, or refused. 2: wrong usage, or the API cannot be reached.
    """
    client = ActionClient(find_target(api, key, store, data_dir))
    message_id = client.post(f"subscription/{subscription_id}/send-test")["messageId"]
    typer.echo(f"Test {message_id} is being sent.")
    deadline = time.monotonic() + TEST_SECONDS
    while (found := client.get(f"delivery/{message_id}"))["status"] == DeliveryStatus.PENDING:
        if time.monotonic() > deadline:
            complain(f"No outcome within {TEST_SECONDS:.0f} s. Does a worker run? See `loyalty-webhooks status`.")
            raise typer.Exit(EXIT_REFUSED)
        time.sleep(POLL_SECONDS)
    if found["status"] != DeliveryStatus.DELIVERED:
        complain(_failed(found))
        raise typer.Exit(EXIT_REFUSED)
    typer.echo(f"Delivered: {found['url']} answered {found['lastStatusCode']}.")


def _failed(found: dict[str, Any]) -> str:
    failure, code = found["lastFailure"], found["lastStatusCode"]
    answered = "" if code is None else f", status {code}"
    if failure not in FailureKind.__members__:
        return f"Not sent: {found['reason']}."
    explained = EXPLANATIONS[FailureKind(failure)]
    return f"Failed ({failure}{answered}): {explained.meaning} {explained.remedy}"


def _delivery_command(action: str, help_text: str, done: str) -> None:
    @delivery.command(action, help=help_text)
    def change(
        message_id: MessageId,
        store: StoreOption = None,
        api: ApiOption = None,
        key: KeyOption = None,
        data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
    ) -> None:
        ActionClient(find_target(api, key, store, data_dir)).post(f"delivery/{message_id}/{action}")
        typer.echo(done)


_delivery_command(
    "redeliver", "Make one more attempt at an ended delivery, also at a delivered one.", "One more attempt is made."
)
_delivery_command("send-now", "Make the next attempt at an open delivery now.", "The delivery is attempted now.")
_delivery_command("cancel", "Cancel an open delivery.", "Cancelled; an attempt in flight completes.")
