"""Alerts fire for their causes, lead to a runbook, and like the dashboards ask only for what is told."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.operations.metrics import ApiMetrics
from telemetry.worker_health import SDK_METRICS
from telemetry.worker_metrics import WorkerMetrics
from tests.house import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
TESTS = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted(GRAFANA.glob("dashboards/*.json"))}
PAGE = (ROOT / "docs" / "operating.md").read_text()
RUNBOOKS = PAGE.partition("\n## Runbooks\n")[2].partition("\n## ")[0]
METRIC = re.compile(r"\b(?:loyalty_webhooks|process|temporal)[_:][a-z0-9_:]+")


def promtool(*arguments: str) -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian: apt install promtool)")
    run = subprocess.run([program, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def told() -> set[str]:
    """Every name a query may use: of our own figures, of the SDK's that are looked at, and of recorded ones."""
    names = {rule["record"] for rule in RULES if "record" in rule}
    for registry in (ApiMetrics().registry, WorkerMetrics().registry):
        names |= registry._names_to_collectors.keys()
        names |= {sample.name for metric in registry.collect() for sample in metric.samples}
    for name in SDK_METRICS:
        names |= {name, f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    return names


def expressions() -> Iterator[tuple[str, str]]:
    """(where it stands, PromQL) of every rule and panel."""
    for rule in RULES:
        yield rule.get("alert", rule.get("record")), rule["expr"]
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"]


def test_the_configuration_and_the_rules_are_valid() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")


def test_what_scrapes_the_pods_is_valid_and_names_their_jobs_as_the_alerts_ask(tmp_path: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    [block] = [block for block in blocks if "kubernetes_sd_configs" in block]
    (tmp_path / "prometheus.yml").write_text(block)
    assert "SUCCESS" in promtool("check", "config", str(tmp_path / "prometheus.yml"))
    [scraped] = yaml.safe_load(block)["scrape_configs"]
    [names] = [rule["replacement"] for rule in scraped["relabel_configs"] if rule.get("target_label") == "job"]
    pinned = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    assert {names.replace("$1", part) for part in ("api", "worker")} == {job["job_name"] for job in pinned}


@pytest.mark.usefixtures("programs")
@pytest.mark.timeout(300)
def test_each_alert_fires_for_its_cause_and_not_without_it() -> None:
    promtool("test", "rules", "rules_test.yml")
    cases = [case for test in TESTS for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == set(ALERTS)
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == set(ALERTS)


def test_queries_ask_only_for_what_is_told() -> None:
    known = told()
    asked = {(where, name) for where, query in expressions() for name in METRIC.findall(query)}
    assert {(where, name) for where, name in asked if name not in known} == set()
    assert {where for where, query in expressions() if not METRIC.search(query)} == {
        "WebhooksApiDown",
        "WebhooksProcessUnreachable",
    }


def test_what_the_sdk_tells_is_looked_at_by_an_alert_or_a_dashboard() -> None:
    asked = {name for _, query in expressions() for name in METRIC.findall(query)}
    assert {name for name in SDK_METRICS if not {name, f"{name}_bucket"} & asked} == set()


def test_the_queries_of_the_dashboards_are_queries(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, (_, query) in enumerate(expressions())
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(tmp_path / "panels.yml"))


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_has_its_section_with_cause_check_and_remedy(name: str) -> None:
    annotations: dict[str, str] = ALERTS[name]["annotations"]
    assert annotations["runbook"] == f"docs/operating.md#{name.lower()}"
    section = RUNBOOKS.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
    assert re.findall(r"^- \*\*(\w+):\*\* \S", section, re.MULTILINE) == ["Cause", "Check", "Remedy"]
    assert ALERTS[name]["labels"]["severity"] in ("critical", "warning")


def test_no_section_is_left_of_an_alert_that_is_no_more() -> None:
    assert set(re.findall(r"^### (\w+)$", RUNBOOKS, re.MULTILINE)) == set(ALERTS)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_takes_its_data_source_from_its_variable_and_its_panels_do_not_overlap(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert [(one["name"], one["type"], one["query"]) for one in dashboard["templating"]["list"]] == [
        ("datasource", "datasource", "prometheus")
    ]
    sources: list[Any] = [panel["datasource"] for panel in dashboard["panels"]]
    sources += [target["datasource"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert [one for one in sources if one != {"type": "prometheus", "uid": "${datasource}"}] == []
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    places = [
        (x, y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24


def test_the_dashboards_have_names_of_their_own() -> None:
    assert len(DASHBOARDS) == 2
    for key in ("uid", "title"):
        assert len({dashboard[key] for dashboard in DASHBOARDS.values()}) == 2


def test_grafana_finds_its_data_source_and_dashboards_where_the_compose_file_mounts_them() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounts = dict(mount.removesuffix(":ro").split(":") for mount in compose["grafana"]["volumes"])
    [source] = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "dashboards.yml").read_text())["providers"]
    assert mounts[f".{os.sep}deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    assert source["url"] == "http://prometheus:9090"
    scraped = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    assert {name for job in scraped for sd in job["dns_sd_configs"] for name in sd["names"]} <= set(compose)
