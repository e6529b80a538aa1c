"""`loyalty-webhooks subscription …` and `delivery …`: what a person does to one of them."""

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

TEST_SECONDS = 30.0  # an attempt takes 15 s at most
POLL_SECONDS = 0.2

subscription = typer.Typer(help="One subscription: pause it, disable it, try its receiver.", no_args_is_help=True)
delivery = typer.Typer(help="One delivery: send it again, send it now, end it.", no_args_is_help=True)

SubscriptionId = Annotated[UUID, typer.Argument(metavar="SUBSCRIPTION", help="Its id.")]
MessageId = Annotated[UUID, typer.Argument(metavar="DELIVERY", help="Its id, the `messageId`.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(subscription, name="subscription")
    app.add_typer(delivery, name="delivery")


def _status_command(act: str, help_text: str, done: str) -> None:
    @subscription.command(act, help=help_text)
    def change(
        subscription_id: SubscriptionId,
        store: StoreOption = None,
        api: ApiOption = None,
        key: KeyOption = None,
        data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
    ) -> None:
        details = ActionClient(find_target(api, key, store, data_dir)).post(f"subscription/{subscription_id}/{act}")
        typer.echo(f"{details['eventName']} → {details['url']} is {details['status']}. {done}")


_status_command(
    "pause",
    "Let its deliveries wait; none is lost.",
    "Its deliveries wait until `loyalty-webhooks subscription resume`.",
)
_status_command("resume", "End a pause: what waits goes out, oldest first.", "What waits goes out, oldest first.")
_status_command(
    "disable",
    "Send nothing more: what waits and what comes ends as exhausted.",
    "What waits and what comes ends as exhausted; `loyalty-webhooks recover` reaches it after enabling.",
)
_status_command(
    "enable",
    "Send again, with a clean record of health.",
    "What ended meanwhile stays ended; `loyalty-webhooks recover` delivers it.",
)


@subscription.command("send-test")
def send_test(
    subscription_id: SubscriptionId,
    store: StoreOption = None,
    api: ApiOption = None,
    key: KeyOption = None,
    data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
) -> None:
    """Send a sample of its event once, marked as a test, and say what the receiver answered.

    Exit code 0: delivered. 1: it failed, or was refused. 2: wrong usage, or the API was not reached.
    """
    client = ActionClient(find_target(api, key, store, data_dir))
    message_id = client.post(f"subscription/{subscription_id}/send-test")["messageId"]
    typer.echo(f"Test {message_id} is being sent.")
    deadline = time.monotonic() + TEST_SECONDS
    while (found := client.get(f"delivery/{message_id}"))["status"] == DeliveryStatus.PENDING:
        if time.monotonic() > deadline:
            complain(f"Nothing came of it within {TEST_SECONDS:.0f} s; does a worker run? `loyalty-webhooks status`")
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
        return f"It was not sent: {found['reason']}."
    explained = EXPLANATIONS[FailureKind(failure)]
    return f"Failed ({failure}{answered}): {explained.meaning} {explained.remedy}"


def _delivery_command(act: str, help_text: str, done: str) -> None:
    @delivery.command(act, help=help_text)
    def change(
        message_id: MessageId,
        store: StoreOption = None,
        api: ApiOption = None,
        key: KeyOption = None,
        data_dir: DataDirectoryOption = DEFAULT_DATA_DIRECTORY,
    ) -> None:
        ActionClient(find_target(api, key, store, data_dir)).post(f"delivery/{message_id}/{act}")
        typer.echo(done)


_delivery_command(
    "redeliver", "One more attempt of a delivery that has ended, also of a delivered one.", "One more attempt is made."
)
_delivery_command("send-now", "Do not wait for the next attempt of an open delivery.", "It is attempted at once.")
_delivery_command("cancel", "End an open delivery.", "It is cancelled; an attempt under way is finished.")
