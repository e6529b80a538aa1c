"""Render the generated pages of docs/: `python docs/render.py`, or `--check` to compare only."""

import argparse
import inspect
import itertools
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import annotated_types
import typer
from prometheus_client import CollectorRegistry
from pydantic.fields import FieldInfo
from typer.core import TyperGroup

import cli
from activities.deliver import LINGERING_MOST
from activities.drain import FIRST_WINDOW
from api.operations.metrics import ApiMetrics
from bench.figures import OLDER
from docs.measured import attacks_page, performance_page, reliability_page
from docs.pictures import path_of_an_event, states_of_a_delivery
from docs.reference import api_page, contract_page, events_page
from domain.delivery.breaker import hold_reason
from domain.delivery.explain import REASONS
from domain.delivery.failure_kinds import EXPLANATIONS, FailureExplanation, FailureKind
from domain.delivery.lifecycle import TRANSITIONS
from domain.delivery.verdict import Answer, VerdictOutcome, verdict
from relay.backpressure import MAX_IN_FLIGHT, Backpressure, WorkflowKind
from relay.batching import (
    GATHER_SECONDS,
    NEXT_BATCH_SECONDS,
    SINGLES_BURST,
    SINGLES_PER_SECOND,
    SMALLEST_SHARE,
    Batching,
)
from sending.concurrency import FIRST_REQUESTS, SHARE, Admission, ConcurrencyLimiter
from sending.drain.round import LARGEST_WINDOW, Round
from sending.drain.sources import OrderedBacklog
from sending.http.address_guard import LOOKUPS_MAX, SLOT_SECONDS, STALE_SECONDS
from sending.http.connection import PIECES_MAX
from sending.rate_limit import HEADROOM, RateLimiter
from sending.subscription_queues import CHEAP_PACKETS, CPU_SHARE
from settings import Settings
from storage.deliveries.retries import MOST_DUE_IN_A_SECOND, MOST_IN_ALL, MOST_OF_A_SUBSCRIPTION, overload
from storage.deliveries.transitions import carried_out_by
from storage.events.outbox import claim
from telemetry.worker_health import SDK_METRICS
from telemetry.worker_metrics import WorkerMetrics
from temporal.retries import STARTS_AT_ONCE
from tests.sending.http.hostile import HOSTILE

DOCS = Path(__file__).parent
SECTION = re.compile(r"^    # (?P<title>\S.*)$")
FIELD = re.compile(r"^    (?P<name>[a-z_]+): ")


def settings_page() -> str:
    """Render every setting with its default and reason, under the headings in `settings.py`."""
    lines = [
        "# Settings",
        "",
        "Environment variables, lines of a file `.env` in the working directory of a command, or, for secrets,",
        "files in the folder `SECRETS_DIR`, each named as its setting (`database_url`). The connection to",
        "Temporal is configured by Temporal's own variables (`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`,",
        "`TEMPORAL_TLS…`, `TEMPORAL_API_KEY`, `TEMPORAL_PROFILE`, …). Generated from `settings.py` by `make docs`.",
    ]
    for title, names in _sections():
        lines += [
            "",
            f"## {title}",
            "",
            "| variable | default | meaning, and the reason for the default |",
            "| --- | --- | --- |",
        ]
        lines += [_row(name, Settings.model_fields[name]) for name in names]
    return "\n".join(lines) + "\n"


def _sections() -> list[tuple[str, list[str]]]:
    """Return (heading, settings below it) from the comments in the class."""
    sections: list[tuple[str, list[str]]] = []
    for line in inspect.getsource(Settings).splitlines():
        if title := SECTION.match(line):
            sections.append((title["title"], []))
        elif (field := FIELD.match(line)) and field["name"] in Settings.model_fields:
            sections[-1][1].append(field["name"])
    return [section for section in sections if section[1]]


def _row(name: str, field: FieldInfo) -> str:
    limits = [text for item in field.metadata if (text := _limit(item))]
    meaning = " ".join([field.description or "", f"({', '.join(limits)})" if limits else ""]).strip()
    return f"| `{name.upper()}` | {_default(field)} | {meaning.replace('|', chr(92) + '|')} |"


def _limit(constraint: Any) -> str:
    match constraint:
        case annotated_types.Ge(ge=bound):
            return f"at least {bound}"
        case annotated_types.Gt(gt=bound):
            return f"more than {bound}"
        case annotated_types.Le(le=bound):
            return f"at most {bound}"
        case _:
            return ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*required*"
    value = field.get_default(call_default_factory=True)
    if value in (None, (), ""):
        return "*none*"
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{text.lower() if isinstance(value, bool) else text}`"


def failure_kinds_page() -> str:
    """Render every failure kind by stage: meaning, consequence and remedy."""
    lines = [
        "# Failure kinds",
        "",
        "Why an attempt failed, or why a delivery ended without a 2xx: a closed list, with the same names in API,",
        "panel, CLI and metrics. Any 2xx is a success. Redirects are not followed. Retries follow the webhook's",
        "retry schedule; a `Retry-After` (seconds or an HTTP date, up to 24 hours) on a 3xx, 4xx or 5xx replaces its",
        "delay, longer or shorter, but is never less than a second. Only a complete response counts: a 200 that is cut",
        "off in its body is a failure. [Hostile receivers](hostile-receivers.md) has the details.",
        "Generated from `domain/delivery/failure_kinds.py` and `domain/delivery/verdict.py` by `make docs`.",
    ]
    for stage, group in itertools.groupby(EXPLANATIONS.items(), key=lambda entry: entry[1].stage):
        lines += [
            "",
            f"## {stage[0].upper()}{stage[1:]}",
            "",
            "| kind | meaning | consequence for the delivery | counts against the receiver | remedy |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [_failure_row(kind, explanation) for kind, explanation in group]
    return "\n".join(lines) + "\n"


def _failure_row(kind: FailureKind, explanation: FailureExplanation) -> str:
    judged = verdict(Answer(None, kind))
    outcome = {
        VerdictOutcome.RETRY: "retried",
        VerdictOutcome.REPEAT: "retried, beside the schedule",
        VerdictOutcome.EXHAUSTED: "gives up at once",
        VerdictOutcome.CANCELLED: "cancelled",
    }[judged.outcome]
    if judged.disables_as is not None:
        outcome += ", and the webhook is disabled"
    counts = "yes" if judged.counts_against_receiver else "no"
    return f"| `{kind}`: {explanation.words} | {explanation.meaning} | {outcome} | {counts} | {explanation.remedy} |"


def hostile_receivers_page() -> str:
    """Render the table of the sender's tests: each receiver that misbehaves, and how an attempt ends with it."""
    lines = [
        "# Hostile receivers",
        "",
        "What an attempt makes of a receiver that misbehaves. Two rules decide:",
        "",
        "- **Lenient about the verdict.** The status of a complete response decides. An oddity is a note in the",
        '  attempt\'s `detail` ("Odd: …"), never a failure; one that comes after the attempt has ended is in no note.',
        "  A response that can be read in two ways is invalid.",
        "- **Strict about reuse.** An oddity closes the connection, so that no response is taken for another's; an",
        "  ignored header does not.",
        "",
        "What an [egress proxy](operating.md#an-egress-proxy) on the way does is told apart, but for its silence: it",
        "counts against the receiver, because a proxy that waits for one looks the same.",
        "",
        f"A worker looks up at most {LOOKUPS_MAX} names at once. A name that finds no place in {SLOT_SECONDS:g} s,",
        "while the name servers of others are silent, is `internal` and counts against nobody. The last addresses",
        f"of a name serve for {STALE_SECONDS / 3600:g} hours while its name servers are silent or failing.",
        "",
        f"Of a response, at most 64 KiB of body, 32 KiB of head and {PIECES_MAX:,} packets are read, or a quarter as",
        "many headers and chunks; the rest of a longer body is not awaited. A 2xx that comes before the request was",
        "sent whole is `invalid_response`: nobody can have accepted what was not sent. Behind an egress proxy that is",
        "itself reached by https it may go unnoticed.",
        "",
        f"A response of more than {CHEAP_PACKETS} packets delays the webhook's next request, so that reading its",
        f"responses takes about {CPU_SHARE * 100:g} % of a core in each worker, however small the packets are.",
        "",
        "Generated by `make docs` from the table in `tests/sending/http/hostile.py`; `test_sender_hostile.py` beside",
        "it tries each of them on a socket, and `test_keep_alive.py` what receivers do with idle connections.",
        "",
        "| the receiver … | status read | result | note |",
        "| --- | --- | --- | --- |",
    ]
    for name, case in HOSTILE.items():
        failure = verdict(Answer(case.status_code, case.failure)).failure
        result = "delivered" if failure is None else f"failed: `{failure}`"
        lines.append(f"| {name} | {case.status_code or ''} | {result} | {case.note or ''} |")
    return "\n".join(lines) + "\n"


def explain_page() -> str:
    """Render every reason that `explain` can give, with its remedy."""
    lines = [
        "# Why did this not arrive?",
        "",
        "`GET /api/{storeCode}/webhook/explain?eventId=…` and `loyalty-webhooks explain` return one of these codes",
        "for the event, and one for each webhook of the store (or for each of its deliveries, where an event has",
        "two). The list is closed. Words in *italics* are filled in; failures are explained in",
        "[Failure kinds](failure-kinds.md). The id of a delivery (`messageId`) in place of the event's explains this",
        "delivery. `lastAnswerMessageId` is the delivery that failed last while a receiver fails, `temporalUrl`",
        "the page of the delivery's workflow, or of the activity that retries it, in the Temporal Web UI, if any.",
        "Generated from `domain/delivery/explain.py` by `make docs`.",
        "",
        "![An event that arrived at one webhook, waits for another and is held for a third](pictures/explain.svg)",
    ]
    for about, group in itertools.groupby(REASONS.items(), key=lambda entry: entry[1].about):
        title = f"{about[0].upper()}{about[1:]}"
        lines += ["", f"## {title}", "", "| code | meaning | remedy |", "| --- | --- | --- |"]
        for code, reason in group:
            text, remedy = (re.sub(r"\{(\w+)\}", _italic, words) for words in (reason.text, reason.remedy))
            lines.append(f"| `{code}` | {text} | {remedy} |")
    return "\n".join(lines) + "\n"


def lifecycle_page() -> str:
    """Render every transition of a delivery, with the function whose statement makes it."""
    lines = [
        "# The lifecycle of a delivery",
        "",
        "![The states of a delivery](pictures/states-of-a-delivery.svg)",
        "",
        "Every transition of a delivery, in the words of the code. `delivered`, `exhausted` (gave up) and `cancelled`",
        "are terminal: only a person's `recover` reopens such a delivery. Once `held`, a delivery belongs to its drain",
        "until it ends. The functions are in `storage/deliveries/transitions.py`; a test runs each on deliveries of",
        "every status and compares their effect with this table. [The delivery protocol](delivery-protocol.md) names",
        "the owner of an open delivery. Generated from `domain/delivery/lifecycle.py` by `make docs`.",
        "",
        "| from | to | cause | reasons | function |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in TRANSITIONS:
        source = "–" if row.source is None else f"`{row.source}`"
        reasons = ", ".join(f"`{reason}`" for reason in row.reasons)
        functions = ", ".join(f"`{function.__name__}`" for function in carried_out_by(row))
        lines.append(f"| {source} | `{row.target}` | {row.cause} | {reasons} | {functions} |")
    return "\n".join(lines) + "\n"


def _italic(name: re.Match[str]) -> str:
    return f"*{name[1].replace('_', ' ')}*"


_SUFFIXES = {"counter": "_total", "info": "_info"}


def metrics_page() -> str:
    """Render every metric of API and worker, with its labels."""
    lines = [
        "# Metrics",
        "",
        "In Prometheus' text format: the API's at `/metrics`, a worker's at the same path of its `WORKER_HEALTH_PORT`.",
        "No label holds an id, a URL or a customer's data; each has few values. A histogram is exposed as `…_bucket`,",
        "`…_sum` and `…_count`. What to watch, and how to react: [operating.md](operating.md). Generated from the code",
        "by `make docs`.",
    ]
    api, worker = (_metric_rows(registry) for registry in (ApiMetrics().registry, WorkerMetrics().registry))
    for title, rows in (
        ("API and worker", [row for row in api if row in worker]),
        ("API", [row for row in api if row not in worker]),
        ("Worker", [row for row in worker if row not in api]),
    ):
        lines += ["", f"## {title}", "", "| metric | type | labels | meaning |", "| --- | --- | --- | --- |", *rows]
    lines += [
        "",
        "## Worker: Temporal's SDK",
        "",
        "The SDK's own metrics follow the worker's, under names `temporal_…` and with durations in seconds. Alerts and",
        "dashboards use these:",
        "",
        "| metric | meaning |",
        "| --- | --- |",
        *(f"| `{name}` | {meaning} |" for name, meaning in SDK_METRICS.items()),
    ]
    return "\n".join(lines) + "\n"


def _metric_rows(registry: CollectorRegistry) -> list[str]:
    rows = []
    for collector in registry._collector_to_names:
        for metric in collector.collect():
            name = metric.name + _SUFFIXES.get(metric.type, "")
            of_samples = metric.samples[0].labels if metric.samples and metric.type != "histogram" else ()
            labels = ", ".join(f"`{label}`" for label in getattr(collector, "_labelnames", ()) or of_samples)
            rows.append(f"| `{name}` | {metric.type} | {labels} | {metric.documentation} |")
    return rows


@dataclass(frozen=True)
class FlowControl:
    """A limit between the 202 and the wire, with the function that applies it."""

    name: str
    limits: str
    limit: str
    reason: str
    function: Callable[..., Any]

    @property
    def place(self) -> str:
        """Return the function's name and module."""
        return f"`{self.function.__qualname__}` in `{self.function.__module__.replace('.', '/')}.py`"


def _defaults() -> dict[str, Any]:
    return {name: field.get_default(call_default_factory=True) for name, field in Settings.model_fields.items()}


def flow_controls() -> tuple[FlowControl, ...]:
    """Return every one, in the order in which a delivery can meet them; some apply to the drain alone."""
    default = _defaults()
    batches = MAX_IN_FLIGHT[WorkflowKind.BATCH]
    return (
        FlowControl(
            "fair queueing",
            "one store's share of a claim",
            "one event of each store in turn",
            "a backlog delays its own store only",
            claim,
        ),
        FlowControl(
            "batching",
            "workflows started",
            f"{SINGLES_PER_SECOND:g} a second for single events, {SINGLES_BURST:g} at once; else up to `BATCH_EVENTS` "
            f"({default['batch_events']}) share one, 1/{1 / SMALLEST_SHARE:g} of that at first and while a quiet store "
            f"is active beside a backlog, which waits {NEXT_BATCH_SECONDS:g} s for the next one; batches start "
            f"{GATHER_SECONDS * 1000:g} ms apart unless events are left over",
            "a workflow costs 35 ms of CPU",
            Batching.singles,
        ),
        FlowControl(
            "backpressure",
            "workflows with first attempts in progress, per worker",
            f"{MAX_IN_FLIGHT[WorkflowKind.SINGLE]} of one event, {batches} batches; twice as many of lapsed claims; "
            f"not counted: up to {LINGERING_MOST} that wait for slow receivers only",
            "what one worker cannot attempt stays claimable by others",
            Backpressure.credits,
        ),
        FlowControl(
            "suspension",
            "deliveries of a paused subscription, or of one with an open circuit breaker "
            f"({default['breaker_failures']} failures in a row)",
            f"paused: none; open breaker: single probes, the first after {default['breaker_first_probe_seconds']:g} s, "
            f"the interval doubling to {default['breaker_longest_probe_seconds']:g} s",
            "a dead receiver gets one probe, not ten thousand requests",
            hold_reason,
        ),
        FlowControl(
            "ordering",
            "deliveries of one ordering key",
            "one at a time",
            "the receiver applies events in their order",
            OrderedBacklog.next,
        ),
        FlowControl(
            "admission control",
            "attempts of one subscription in progress or queued in a worker, when a first attempt is admitted",
            f"{batches + 1} batches ({(batches + 1) * default['batch_events']:,}); the rest is held",
            "one subscription's burst fills neither memory nor batches",
            Admission.may_begin,
        ),
        FlowControl(
            "slow start",
            "deliveries of an unordered drain without a rate limit, in progress",
            f"{FIRST_WINDOW}, one more per success, up to {LARGEST_WINDOW}",
            "a recovered receiver is not overrun",
            Round.run,
        ),
        FlowControl(
            "concurrency limiter",
            "requests in flight",
            f"`SUBSCRIPTION_CONCURRENCY` ({default['subscription_concurrency']}) or `maxConcurrency` per subscription, "
            f"`ATTEMPTS_IN_FLIGHT` ({default['attempts_in_flight']}) per worker; one subscription holds at most "
            f"1/{1 / SHARE:g} of the free slots, without a drain {FIRST_REQUESTS} at first and one more per success; a "
            "response with many packets keeps its slot for longer (`CPU_SHARE`)",
            "a slow receiver delays only itself",
            ConcurrencyLimiter.acquire,
        ),
        FlowControl(
            "rate limiter",
            "requests per second of one subscription, over all workers",
            f"{HEADROOM:.0%} of `rateLimitPerSecond`; halved by 429s (adaptive throttling)".replace("%", " %"),
            "the limit is exceeded by at most 5 % in any second",
            RateLimiter.wait,
        ),
        FlowControl(
            "retry scheduling",
            "retries",
            "the retry schedule (`retry_delay` in `domain/delivery/retry.py`), never before `Retry-After`; "
            f"{STARTS_AT_ONCE} starts at once per worker; beyond {MOST_OF_A_SUBSCRIPTION} waiting of one subscription, "
            f"{MOST_IN_ALL:,} in all, or {MOST_DUE_IN_A_SECOND} due in one second, retries are held",
            "Temporal finishes 128 standalone activities a second",
            overload,
        ),
    )


FLOW_CONTROL = re.compile(r"(<!-- flow control -->\n).*(<!-- /flow control -->)", re.DOTALL)


def architecture_page() -> str:
    """Return the page with the table of flow control between its markers."""
    lines = ["| | mechanism | limits | limit | reason | function |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [
        f"| {number} | {one.name} | {one.limits} | {one.limit} | {one.reason} | {one.place} |"
        for number, one in enumerate(flow_controls(), start=1)
    ]
    table = "\n".join(["", *lines, "", ""])
    return FLOW_CONTROL.sub(lambda place: place[1] + table + place[2], (DOCS / "architecture.md").read_text())


def cli_page() -> str:
    """Render every command with its help, arguments and options."""
    lines = [
        "# The command line",
        "",
        "What `loyalty-webhooks COMMAND --help` says, on one page. The commands `subscription` and",
        "`subscriptions` act on webhooks: they are named as in the API. Generated from the commands by `make docs`.",
        "",
        "**Which installation.** A command that calls the API works on `--api` and `--key`, else on the stack that",
        "`up` runs in `--data-dir` if that is given, else on `LOYALTY_WEBHOOKS_API` and `LOYALTY_WEBHOOKS_KEY`,",
        "else on the stack in `.loyalty-webhooks`. A command that opens the database works on the stack in",
        "`--data-dir` if that is given, else on the database of `DATABASE_URL` ([settings](settings.md)), else on",
        "the stack in `.loyalty-webhooks`.",
        "",
        "**Output.** The result is on standard output, messages and progress are on standard error. `--json` prints",
        "the result as JSON: one value, or, where results come one after the other (`emit`, `listen`, `tail`), one",
        "object a line. Tables are aligned text, and cut nothing, so ids can be copied and read by other programs.",
        "",
        "**Exit codes.** 0: done. 1: refused, failed, or not everything succeeded. 2: wrong usage, or the API or the",
        "stack cannot be reached. 130: interrupted. Exceptions are named below.",
    ]
    for name, command in typer.main.get_command(cli.command_line()).commands.items():  # type: ignore[attr-defined]
        lines += _command_lines(name, command)
    return "\n".join(lines) + "\n"


def _command_lines(name: str, command: Any) -> list[str]:
    if isinstance(command, TyperGroup):
        inner = (_command_lines(f"{name} {one}", each) for one, each in command.commands.items())
        return ["", f"## {name}", "", command.help or "", *itertools.chain.from_iterable(inner)]
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    shown = (one.metavar or one.name.upper() for one in arguments)
    words = (word if one.required else f"[{word}]" for word, one in zip(shown, arguments, strict=True))
    usage = " ".join([name, *words, *(["[OPTIONS]"] if options else [])])
    text = inspect.cleandoc(command.help or "").replace("\b", "")
    lines = ["", f"{'###' if ' ' in name else '##'} {name}", "", f"`loyalty-webhooks {usage}`", "", text]
    if options:
        lines += ["", "| option | meaning |", "| --- | --- |"]
    for option in options:
        names = ", ".join(f"`{one}`" for one in (*option.opts, *option.secondary_opts))
        lines.append(f"| {names} | {_option_meaning(option)} |")
    return lines


def _option_meaning(option: Any) -> str:
    facts = []
    if option.required:
        facts.append("required")
    if isinstance(option.show_default, str):
        facts.append(f"default: {option.show_default}")
    elif option.show_default and option.default not in (None, False, True):
        facts.append(f"default: `{option.default}`")
    if option.envvar:
        facts.append(f"environment: `{option.envvar}`")
    note = f" ({'; '.join(facts)})" if facts else ""
    return f"{(option.help or '').replace('|', chr(92) + '|')}{note}"


PAGES: dict[str, Callable[[], str]] = {
    "architecture.md": architecture_page,
    "cli.md": cli_page,
    "settings.md": settings_page,
    "failure-kinds.md": failure_kinds_page,
    "hostile-receivers.md": hostile_receivers_page,
    "attacks.md": attacks_page,
    "explain.md": explain_page,
    "lifecycle.md": lifecycle_page,
    "metrics.md": metrics_page,
    "performance.md": performance_page,
    "reliability.md": reliability_page,
    "api.md": api_page,
    "events.md": events_page,
    "contract.md": lambda: contract_page((DOCS / "contract.md").read_text()),
    "pictures/path-of-an-event.svg": path_of_an_event,
    "pictures/states-of-a-delivery.svg": states_of_a_delivery,
}


def _undated(text: str) -> str:
    """The page without the marks of results that are older than the code: each commit may change them."""
    return text.replace(OLDER, "")


def main() -> int:
    """Write every page; with --check list the pages that are not up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is not up to date")
    check = parser.parse_args().check
    stale = 0
    for name, page in PAGES.items():
        path, text = DOCS / name, page()
        if path.is_file() and _undated(path.read_text()) == _undated(text) and (check or path.read_text() == text):
            continue
        stale += 1
        if not check:
            path.write_text(text)
        sys.stdout.write(f"docs/{name}: {'not up to date; run make docs' if check else 'written'}\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
