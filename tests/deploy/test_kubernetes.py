"""
config/kubernetes: what a node is asked to run, and that every configuration in it is one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import agent
from agent.config import load, parse
from tests.deploy import manifests
from tests.deploy.manifests import COMPONENTS, KUBERNETES, KUBERNETES_VERSIONS, OVERLAYS, only

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Config
    from tests.deploy.manifests import Manifest

#: Kinds of other people's operators: no schema comes with Kubernetes.
CUSTOM_KINDS = {"PodMonitor"}
ROLE_ANNOTATION = "eks.amazonaws.com/role-arn"
ENVIRONMENT = {"CLUSTER_NAME": "demo", "NODE_NAME": "n", "ARCHIVE_BUCKET": "my-logs"}
PULLER = KUBERNETES / "components" / "eks-control-plane"
CONFIGURATIONS = sorted(set(KUBERNETES.rglob("tailrace.yaml")) - {PULLER / "tailrace.yaml"})


def configured(rendered: tuple[Manifest, ...]) -> Config:
    """
    Return the configuration that the pod reads in the environment that the pod has.
    """
    daemon_set = only(rendered, "DaemonSet")
    environ = {"NODE_NAME": "n"} | only(rendered, "ConfigMap", "tailrace-env").get("data", {})
    for item in manifests.container(daemon_set)["env"]:
        environ[item["name"]] = item.get("value", "n")
    text = only(rendered, "ConfigMap", "tailrace-config")["data"]["tailrace.yaml"]
    return parse(text, name="ConfigMap", environ=environ)


def check_daemon_set(daemon_set: Manifest, *, added: list[str] | None = None) -> None:
    """
    Assert what every variant of the DaemonSet keeps.
    """
    pod = daemon_set["spec"]["template"]["spec"]
    container = manifests.container(daemon_set)
    own = container["securityContext"]
    assert (own["privileged"], own["allowPrivilegeEscalation"]) == (False, False)
    assert own["readOnlyRootFilesystem"] is True
    assert own["capabilities"]["drop"] == ["ALL"]
    assert own["capabilities"].get("add") == added
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["securityContext"]["runAsUser"] == 0
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["priorityClassName"] == "system-node-critical"
    assert daemon_set["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"] == 0
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]

    probes = {name: container[name]["exec"]["command"][-1] for name in container if "Probe" in name}
    # A cloud that is down may show in /readyz; what can restart the agent must not look there.
    assert probes == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    mounts = {item["name"]: item for item in container["volumeMounts"]}
    volumes = {item["name"]: item for item in pod["volumes"]}
    assert set(mounts) == set(volumes)
    assert [name for name in mounts if not mounts[name].get("readOnly")] == ["state"]
    assert volumes["state"]["hostPath"] == {
        "path": "/var/lib/tailrace",
        "type": "DirectoryOrCreate",
    }
    assert mounts["logs"]["mountPath"] == volumes["logs"]["hostPath"]["path"] == "/var/log"
    node_name = next(item for item in container["env"] if item["name"] == "NODE_NAME")
    assert node_name["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"


def check_times(daemon_set: Manifest, config: Config) -> None:
    """
    Assert that Kubernetes waits for longer than the agent takes.
    """
    grace_s = daemon_set["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s > config.drain_timeout_s
    # The pod before may use all of its grace, and nothing answers until its lock is free.
    assert config.lock_wait_s >= grace_s
    startup = manifests.container(daemon_set)["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > config.lock_wait_s
    (state,) = [
        item["mountPath"]
        for item in manifests.container(daemon_set)["volumeMounts"]
        if item["name"] == "state"
    ]
    assert config.state_dir == state


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.parent.name)
def test_configurations(path: Path) -> None:
    """
    Every tailrace.yaml is complete and right, and drains within the pod's grace period.
    """
    config = load(str(path), ENVIRONMENT | {"EMULATOR_URL": "http://moto:5000"})
    daemon_set = only((item for _, item in manifests.written()), "DaemonSet")
    check_times(daemon_set, config)
    (source,) = config.sources
    assert source.settings.exclude == ("/var/log/pods/tailrace_tailrace-*/*/*.log",)


def test_configurations_are_four() -> None:
    assert [path.parent.name for path in CONFIGURATIONS] == ["base", "both", "local", "s3"]


def test_daemon_set_as_written() -> None:
    """
    The base says all of it itself: no overlay is needed to be safe.
    """
    check_daemon_set(only((item for _, item in manifests.written()), "DaemonSet"))


def test_rbac_as_written() -> None:
    """
    Pods and namespaces are read; nothing else, and nothing is written.
    """
    everything = [item for _, item in manifests.written()]
    assert only(everything, "ClusterRole")["rules"] == [
        {"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["get", "list", "watch"]}
    ]
    binding = only(everything, "ClusterRoleBinding")
    assert binding["roleRef"]["name"] == "tailrace"
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "tailrace", "namespace": "tailrace"}
    ]
    roles = [item for item in everything if item["kind"] in {"Role", "RoleBinding"}]
    assert {item["metadata"]["name"] for item in roles} == {"tailrace-puller"}


def test_the_puller() -> None:
    """
    It holds one Lease, keeps its state on a volume, sees nothing of its node, and runs what is a configuration.
    """
    everything = [item for _, item in manifests.written()]
    deployment = only(everything, "Deployment", "tailrace-puller")
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]["type"]) == (
        1,
        "Recreate",
    )
    pod = deployment["spec"]["template"]["spec"]
    container = manifests.container(deployment)
    own = container["securityContext"]
    assert (own["privileged"], own["allowPrivilegeEscalation"]) == (False, False)
    assert own["readOnlyRootFilesystem"] is True
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert not [item for item in pod["volumes"] if "hostPath" in item or "emptyDir" in item]
    mounts = {item["name"]: item["mountPath"] for item in container["volumeMounts"]}
    environ = ENVIRONMENT | {item["name"]: item["value"] for item in container["env"]}
    config = load(str(PULLER / "tailrace.yaml"), environ)
    assert mounts["state"] == config.state_dir
    assert pod["terminationGracePeriodSeconds"] > config.drain_timeout_s
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > config.lock_wait_s
    assert container["args"] == ["puller", "-c", f"{mounts['config']}/tailrace.yaml"]
    (source,) = config.sources
    create, held = only(everything, "Role", "tailrace-puller")["rules"]
    assert create["verbs"] == ["create"]
    assert (held["resourceNames"], held["verbs"]) == (
        [source.settings.lease_name],
        ["get", "update"],
    )
    example = load(f"{manifests.REPOSITORY}/config/examples/eks-control-plane.yaml", ENVIRONMENT)
    assert example.routes == config.routes


def test_the_puller_beside_the_agents(tmp_path: Path) -> None:
    """
    Rendered with an overlay it finds its own configuration, its environment and its account.
    """
    rendered = tuple(
        manifests.custom(
            tmp_path,
            {
                "namespace": "tailrace",
                "resources": ["overlays/both"],
                "components": ["components/eks-control-plane"],
            },
        )
    )
    check_daemon_set(only(rendered, "DaemonSet"))
    deployment = only(rendered, "Deployment", "tailrace-puller")
    names = {item["metadata"]["name"] for item in rendered if item["kind"] == "ConfigMap"}
    pod = deployment["spec"]["template"]["spec"]
    mounted = next(item["configMap"]["name"] for item in pod["volumes"] if "configMap" in item)
    (environment,) = manifests.container(deployment)["envFrom"]
    assert {mounted, environment["configMapRef"]["name"]} < names
    assert pod["serviceAccountName"] == only(rendered, "ServiceAccount")["metadata"]["name"]
    assert ":0." in manifests.container(deployment)["image"]
    for version in KUBERNETES_VERSIONS:
        for manifest in rendered:
            validate(manifest, version)


def test_kustomizations_name_files_that_exist() -> None:
    """
    Without kustomize at hand, a wrong path is found all the same; so is a file that nothing names.
    """
    named = set()
    for path in KUBERNETES.rglob("kustomization.yaml"):
        kustomization = yaml.safe_load(path.read_text())
        names = [*kustomization.get("resources", []), *kustomization.get("components", [])]
        for generator in kustomization.get("configMapGenerator", []):
            names += generator.get("files", [])
        for name in names:
            target = (path.parent / name).resolve()
            assert target.exists(), f"{path}: {name}"
            named.add(target)
    files = {path for path in KUBERNETES.rglob("*.yaml") if path.name != "kustomization.yaml"}
    assert not files - named
    # Commented lines of the overlays offer the other components.
    offered = (KUBERNETES / "overlays/both/kustomization.yaml").read_text()
    assert [name for name in COMPONENTS if f"../../components/{name}" not in offered] == []


def test_images_are_of_this_version() -> None:
    """
    A release changes the tag in every kustomization that names one.
    """
    tags = {
        image["newTag"]
        for path in KUBERNETES.rglob("kustomization.yaml")
        for image in yaml.safe_load(path.read_text()).get("images", [])
    }
    assert tags == {agent.__version__}


def validate(manifest: Manifest, version: str) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="pip install '.[dev]'")
    if manifest["kind"] not in CUSTOM_KINDS:
        validator.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_schema_as_written(version: str) -> None:
    """
    Every manifest fits Kubernetes' own schema, without a key that it does not know.
    """
    for name, manifest in manifests.written():
        try:
            validate(manifest, version)
        except ValueError as error:
            pytest.fail(f"{name}: {error}")


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_schema_as_rendered(name: str, version: str) -> None:
    for manifest in manifests.overlay(name):
        validate(manifest, version)


def test_schema_refuses() -> None:
    """
    The validator is awake: a misspelt key and a wrong type are errors.
    """
    validator = pytest.importorskip("kubernetes_validate", reason="pip install '.[dev]'")
    daemon_set = only((item for _, item in manifests.written()), "DaemonSet")
    pod: dict[str, Any] = daemon_set["spec"]["template"]["spec"]
    for key, value in (("hostNetworking", True), ("terminationGracePeriodSeconds", "60s")):
        kept = pod.get(key)
        pod[key] = value
        with pytest.raises(validator.ValidationError):
            validate(daemon_set, KUBERNETES_VERSIONS[0])
        pod.pop(key)
        if kept is not None:
            pod[key] = kept
    validate(daemon_set, KUBERNETES_VERSIONS[0])


@pytest.mark.parametrize(
    ("name", "sinks"),
    [
        ("cloudwatch", ["cloudwatch"]),
        ("s3", ["parquet"]),
        ("both", ["cloudwatch", "parquet"]),
        ("local", ["cloudwatch", "parquet"]),
    ],
)
def test_overlay(name: str, sinks: list[str]) -> None:
    """
    What an overlay applies starts: the DaemonSet finds its ConfigMaps, and they hold a right configuration.
    """
    rendered = manifests.overlay(name)
    daemon_set = only(rendered, "DaemonSet")
    check_daemon_set(daemon_set)
    config = configured(rendered)
    check_times(daemon_set, config)
    assert [route.type for route in config.routes] == sinks
    assert config.admin.listen == "127.0.0.1:2020"

    names = {item["metadata"]["name"] for item in rendered if item["kind"] == "ConfigMap"}
    pod = daemon_set["spec"]["template"]["spec"]
    mounted = next(item["configMap"]["name"] for item in pod["volumes"] if "configMap" in item)
    (environment,) = manifests.container(daemon_set)["envFrom"]
    assert {mounted, environment["configMapRef"]["name"]} == names
    assert all(re.search(r"-[0-9a-z]{10}$", item) for item in names)
    namespaced = [item for item in rendered if item["kind"] != "Namespace"]
    assert {item["metadata"].get("namespace", "tailrace") for item in namespaced} == {"tailrace"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_role(name: str) -> None:
    """
    IRSA annotates the ServiceAccount, a cluster without AWS does not.
    """
    account = only(manifests.overlay(name), "ServiceAccount")
    annotated = ROLE_ANNOTATION in account["metadata"].get("annotations", {})
    assert annotated is (name != "local")


def test_local_endpoint() -> None:
    """
    The local overlay talks to the emulator alone, by a name that the pod's resolver knows.
    """
    rendered = manifests.overlay("local")
    config = configured(rendered)
    service = only(rendered, "Service", "moto")
    port = service["spec"]["ports"][0]["port"]
    urls = {route.sink.endpoint_url for route in config.routes}
    assert urls == {f"http://{service['metadata']['name']}:{port}"}
    assert only(rendered, "DaemonSet")["spec"]["template"]["spec"]["dnsPolicy"] == "ClusterFirst"


def test_pod_identity(tmp_path: Path) -> None:
    """
    Pod Identity takes the annotation away, which would win over it.
    """
    rendered = manifests.custom(
        tmp_path, {"resources": ["overlays/both"], "components": ["components/pod-identity"]}
    )
    assert ROLE_ANNOTATION not in only(rendered, "ServiceAccount")["metadata"].get(
        "annotations", {}
    )


def test_every_component_at_once(tmp_path: Path) -> None:
    """
    Components go together, and each changes what it is for and nothing else.
    """
    components = [f"components/{name}" for name in ("podmonitor", "docker", "any-owner")]
    rendered = tuple(
        manifests.custom(
            tmp_path,
            {"namespace": "tailrace", "resources": ["overlays/both"], "components": components},
        )
    )
    daemon_set = only(rendered, "DaemonSet")
    check_daemon_set(daemon_set, added=["DAC_READ_SEARCH"])
    config = configured(rendered)
    assert config.admin.listen == ":2020"
    (port,) = manifests.container(daemon_set)["ports"]
    assert port["containerPort"] == 2020
    (endpoint,) = only(rendered, "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")
    labels = daemon_set["spec"]["template"]["metadata"]["labels"]
    for kind, key in (("PodMonitor", "selector"), ("NetworkPolicy", "podSelector")):
        wanted = only(rendered, kind)["spec"][key]["matchLabels"]
        assert wanted.items() <= labels.items()
    paths = [item["mountPath"] for item in manifests.container(daemon_set)["volumeMounts"]]
    assert "/var/lib/docker/containers" in paths
    for version in KUBERNETES_VERSIONS:
        for manifest in rendered:
            validate(manifest, version)


def test_kustomization_of_the_readme(tmp_path: Path) -> None:
    """
    What the README says to put on top of an overlay works: name, role, image and cluster are one's own.
    """
    readme = (manifests.REPOSITORY / "README.md").read_text()
    (text,) = re.findall(r"```yaml\n(apiVersion: kustomize.*?)```", readme, re.DOTALL)
    kustomization = yaml.safe_load(text)
    assert kustomization["resources"] == ["../tailrace/config/kubernetes/overlays/both"]
    kustomization["resources"] = ["overlays/both"]
    rendered = tuple(manifests.custom(tmp_path, kustomization))
    config = configured(rendered)
    assert config.cluster == "production"
    assert [getattr(route.sink, "url", "") for route in config.routes][
        1
    ] == "s3://production-logs/logs"
    account = only(rendered, "ServiceAccount")
    assert account["metadata"]["annotations"][ROLE_ANNOTATION].startswith(
        "arn:aws:iam::444455556666"
    )
    image = manifests.container(only(rendered, "DaemonSet"))["image"]
    assert image == f"REGISTRY/tailrace:{agent.__version__}"
