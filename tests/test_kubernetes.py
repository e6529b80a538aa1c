"""The manifests are as Kubernetes wants them and as the code needs them, as far as can be seen without a cluster."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

import cli
from api.operations.metrics import ApiMetrics
from settings import Settings
from telemetry.worker_metrics import WorkerMetrics
from tests.house import PYPROJECT, ROOT
from tests.test_compose import DOCKERFILE, REQUIRED, SETTINGS, TEMPORAL_CLIENT

FOLDER = ROOT / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
VERSIONS = ("1.30", kubernetes_validate.latest_version())
"""The oldest that has all that is used (a pause before the stop), and the newest there are schemas of."""

MANIFESTS: list[dict[str, Any]] = [
    manifest for name in KUSTOMIZATION["resources"] for manifest in yaml.safe_load_all((FOLDER / name).read_text())
]
SETTINGS_MAP = next(one["data"] for one in MANIFESTS if one["kind"] == "ConfigMap")
WORKLOADS = {one["metadata"]["name"]: one for one in MANIFESTS if one["kind"] in ("Deployment", "Job")}
SERVED = ("api", "worker")
TEMPORAL_CREDENTIALS = {
    "TEMPORAL_API_KEY": "temporal_api_key",
    "TEMPORAL_TLS_CLIENT_CERT_DATA": "temporal_tls_certificate",
    "TEMPORAL_TLS_CLIENT_KEY_DATA": "temporal_tls_key",
    "TEMPORAL_TLS_SERVER_CA_CERT_DATA": "temporal_tls_server_ca",
}
"""Of Temporal's own environment; that they work is tried in tests/temporal/test_client.py."""


def named(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


def pod(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = WORKLOADS[name]["spec"]["template"]["spec"]
    return spec


def container(name: str) -> dict[str, Any]:
    [one] = pod(name)["containers"]
    assert isinstance(one, dict)
    return one


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in MANIFESTS if one["kind"] == kind}


def labels(name: str) -> dict[str, str]:
    found: dict[str, str] = WORKLOADS[name]["spec"]["template"]["metadata"]["labels"]
    return found


def named_keys(value: object, key: str) -> Iterator[Any]:
    """Every value of a key, however deep."""
    if isinstance(value, dict):
        yield from [value[key]] if key in value else []
        for inner in value.values():
            yield from named_keys(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from named_keys(inner, key)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", MANIFESTS, ids=named)
def test_every_manifest_is_valid_by_the_schemas_of_kubernetes(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_every_file_is_listed_and_kustomize_builds_them() -> None:
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(KUSTOMIZATION["resources"]) == files
    kustomize = shutil.which("kustomize")
    if kustomize is None:
        pytest.skip("kustomize is not installed")
    built = subprocess.run([kustomize, "build", str(FOLDER)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    images = re.findall(r"image: (\S+)", built.stdout)
    assert set(images) == {f"registry.example.com/loyalty-webhooks:{PYPROJECT['project']['version']}"}
    assert len(images) == len(WORKLOADS)


def test_there_is_one_workload_for_each_part() -> None:
    assert set(WORKLOADS) == {"temporal-setup", "migrate", "api", "worker"}


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_command_is_one_of_the_command_line(name: str) -> None:
    command = container(name)["args"]
    assert command == (["temporal", "setup"] if name == "temporal-setup" else [name])
    assert command[0] in cli.COMMANDS


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_variable_is_a_setting(name: str) -> None:
    one = container(name)
    variables = {variable["name"]: variable["valueFrom"] for variable in one.get("env", ())}
    secrets = {variable: found["secretKeyRef"] for variable, found in variables.items() if "secretKeyRef" in found}
    if name == "temporal-setup":
        assert variables.keys() - secrets.keys() == TEMPORAL_CLIENT
        assert {key["key"] for key in named_keys(one["env"], "configMapKeyRef")} <= set(SETTINGS_MAP)
    else:
        assert one["envFrom"] == [{"configMapRef": {"name": "loyalty-webhooks"}}]
        assert variables.keys() == secrets.keys()
    assert {variable: secret["key"] for variable, secret in secrets.items()} == (
        {} if name == "migrate" else TEMPORAL_CREDENTIALS
    )
    assert all(secret["optional"] for secret in secrets.values())
    assert set(SETTINGS_MAP) - SETTINGS == TEMPORAL_CLIENT


@pytest.mark.parametrize("name", sorted(WORKLOADS.keys() - {"temporal-setup"}))
def test_every_required_setting_is_a_file_of_the_secret(name: str) -> None:
    required = REQUIRED | ({"jwt_secrets"} if name == "api" else set())
    [volume] = [one for one in pod(name)["volumes"] if "secret" in one]
    assert {item["path"] for item in volume["secret"]["items"]} == required
    [mount] = [one for one in container(name)["volumeMounts"] if one["name"] == volume["name"]]
    assert (mount["mountPath"], mount["readOnly"]) == (SETTINGS_MAP["SECRETS_DIR"], True)


def test_no_secret_stands_in_a_manifest() -> None:
    assert of_kind("Secret") == {}
    assert not {name.upper() for name in REQUIRED} & set(SETTINGS_MAP)


@pytest.mark.parametrize("name", WORKLOADS)
def test_our_containers_may_do_little(name: str) -> None:
    security = container(name)["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    of_the_pod = pod(name)["securityContext"]
    assert of_the_pod["runAsNonRoot"] is True
    assert of_the_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert f"\nUSER {of_the_pod['runAsUser']}\n" in DOCKERFILE
    assert pod(name)["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", WORKLOADS)
def test_memory_is_bounded_and_the_image_is_the_one_that_is_pinned(name: str) -> None:
    assert "memory" in container(name)["resources"]["limits"]
    [image] = KUSTOMIZATION["images"]
    assert container(name)["image"] == image["name"]
    assert image["newTag"] == PYPROJECT["project"]["version"]


@pytest.mark.parametrize("name", SERVED)
def test_what_serves_is_probed_where_it_answers(name: str) -> None:
    one = container(name)
    [port] = one["ports"]
    for variable in ("API_PORT", "WORKER_HEALTH_PORT"):
        assert f"{variable}={port['containerPort']}" in DOCKERFILE
    paths = {probe: one[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert set(paths.values()) == {"/healthz", "/readyz"}
    assert paths["livenessProbe"] == "/healthz"  # a process is not started again because something else is away


def test_the_api_takes_events_while_temporal_is_away() -> None:
    assert container("api")["readinessProbe"]["httpGet"]["path"] == "/healthz"


@pytest.mark.parametrize("name", SERVED)
def test_a_new_version_never_leaves_fewer_processes_than_before(name: str) -> None:
    assert WORKLOADS[name]["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "replicas" not in WORKLOADS[name]["spec"]  # an apply would undo what the autoscaler did
    scaler = of_kind("HorizontalPodAutoscaler")[name]["spec"]
    assert scaler["scaleTargetRef"]["name"] == name
    assert scaler["minReplicas"] >= 2
    budget = of_kind("PodDisruptionBudget")[name]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"] == labels(name)


def test_workers_are_added_by_a_metric_that_exists() -> None:
    known = {
        metric.name for registry in (ApiMetrics().registry, WorkerMetrics().registry) for metric in registry.collect()
    }
    asked = {one["name"] for one in named_keys(MANIFESTS, "metric")}
    assert asked
    assert asked <= known


def test_every_selector_finds_something_of_ours() -> None:
    for manifest in MANIFESTS:
        if manifest["kind"] == "NetworkPolicy":
            wanted = manifest["spec"]["podSelector"].get("matchLabels", {})
        elif manifest["kind"] == "Service":
            wanted = manifest["spec"]["selector"]
        else:
            continue
        assert any(wanted.items() <= labels(name).items() for name in WORKLOADS), named(manifest)


def test_deliveries_may_go_to_the_ports_that_are_allowed_by_default_and_to_no_private_network() -> None:
    [rule] = of_kind("NetworkPolicy")["deliveries"]["spec"]["egress"]
    assert tuple(port["port"] for port in rule["ports"]) == Settings.model_fields["allowed_ports"].default
    excepted = {network for block in named_keys(rule, "ipBlock") for network in block["except"]}
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7"} <= excepted
