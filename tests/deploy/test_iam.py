"""
config/iam: the policies allow what the code asks for, and nothing else.
"""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.manifests import KUBERNETES, REPOSITORY, written

if TYPE_CHECKING:
    from collections.abc import Iterator

IAM = REPOSITORY / "config" / "iam"
POLICIES = sorted(IAM.glob("*.json"))
#: An operation of CloudWatch Logs, as the header x-amz-target carries it.
LOGS_OPERATION = re.compile(
    r"(?:Create|Put|Delete|Describe|Get|Filter|List|Tag|Start|Stop)[A-Z]\w+"
)
#: (method, the query's keys) of a request to S3 → the action that IAM asks for.
S3_ACTIONS = {
    ("PUT", frozenset()): "s3:PutObject",
    ("PUT", frozenset({"partNumber", "uploadId"})): "s3:PutObject",
    ("POST", frozenset({"uploads"})): "s3:PutObject",
    ("POST", frozenset({"uploadId"})): "s3:PutObject",
    ("DELETE", frozenset({"uploadId"})): "s3:AbortMultipartUpload",
    ("GET", frozenset({"uploads", "prefix"})): "s3:ListBucketMultipartUploads",
}


def statements(name: str) -> list[dict[str, Any]]:
    policy = json.loads((IAM / name).read_text())
    assert policy["Version"] == "2012-10-17"
    found: list[dict[str, Any]] = policy["Statement"]
    return found


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def actions(*names: str) -> set[str]:
    return {
        action
        for name in names
        for statement in statements(name)
        for action in listed(statement["Action"])
    }


def logs_operations() -> set[str]:
    """
    Return the operations that the code of the sink names: strings that end up in x-amz-target.
    """
    found = set()
    for path in sorted((REPOSITORY / "agent" / "sinks").glob("cloudwatch*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {node.value} if LOGS_OPERATION.fullmatch(node.value) else set()
    return found


def s3_requests() -> Iterator[tuple[str, frozenset[str]]]:
    """
    Yield (method, keys of the query) of every request that the S3 store sends.
    """
    tree = ast.parse((REPOSITORY / "agent" / "sinks" / "parquet_s3.py").read_text())
    for function in ast.walk(tree):
        if not isinstance(function, ast.AsyncFunctionDef):
            continue
        queries = {
            node.targets[0].id: node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Dict)
        }
        for node in ast.walk(function):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "self._send"):
                continue
            query = next((word.value for word in node.keywords if word.arg == "query"), None)
            query = queries[query.id] if isinstance(query, ast.Name) else query
            keys = query.keys if isinstance(query, ast.Dict) else []
            method = ast.literal_eval(node.args[0])
            yield method, frozenset(ast.literal_eval(key) for key in keys if key is not None)


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_policy_is_narrow(path: Any) -> None:
    """
    No policy names every resource, every action of a service, or what it does not allow.
    """
    for statement in statements(path.name):
        assert statement["Effect"] == "Allow"
        assert not {"NotAction", "NotResource", "NotPrincipal"} & set(statement)
        assert not [action for action in listed(statement["Action"]) if "*" in action]
        if path.stem.startswith("trust-"):
            assert statement["Condition"]
            assert "*" not in json.dumps(statement)
            continue
        for resource in listed(statement["Resource"]):
            # arn:partition:service:Region:account:what; below a named bucket or group anything goes.
            what = resource.split(":", 5)[5]
            assert "*" not in resource.removesuffix("*"), resource
            assert re.match(r"[\w/:-]+[/:]\*$|[\w/:-]+$", what), resource


def test_logs_actions() -> None:
    """
    CloudWatch: exactly the operations of the sink, and TagResource, which CreateLogGroup with tags asks for.
    """
    called = {f"logs:{operation}" for operation in logs_operations()}
    assert "logs:PutLogEvents" in called
    assert actions("cloudwatch.json", "cloudwatch-groups.json") == called | {"logs:TagResource"}
    assert actions("cloudwatch.json") == {"logs:CreateLogStream", "logs:PutLogEvents"}


def test_actions_of_the_puller() -> None:
    """
    Two operations, on the group that EKS writes to.
    """
    from agent.runtime.eks_requests import DESCRIBE, FILTER
    from agent.sources.eks_settings import ClusterSettings, EksControlPlaneSettings

    assert actions("eks-control-plane.json") == {f"logs:{FILTER}", f"logs:{DESCRIBE}"}
    settings = EksControlPlaneSettings(clusters=(ClusterSettings(name="CLUSTER_NAME"),))
    (group,) = {query.group for query in settings.queries("")}
    (statement,) = statements("eks-control-plane.json")
    assert {item.split(":log-group:")[1] for item in statement["Resource"]} == {group, f"{group}:*"}


def test_s3_actions() -> None:
    """
    S3: exactly what the requests of the store need; a new kind of request fails here.
    """
    requests = set(s3_requests())
    assert len(requests) == len(S3_ACTIONS)
    assert actions("s3.json") == {S3_ACTIONS[request] for request in requests}


def test_trust_names_the_service_account() -> None:
    """
    IRSA trusts this ServiceAccount alone; Pod Identity needs both actions, and this cluster.
    """
    account = next(item for _, item in written() if item["kind"] == "ServiceAccount")
    namespace = next(item for _, item in written() if item["kind"] == "Namespace")
    subject = f"system:serviceaccount:{namespace['metadata']['name']}:{account['metadata']['name']}"
    (irsa,) = statements("trust-irsa.json")
    assert irsa["Action"] == "sts:AssumeRoleWithWebIdentity"
    equals = {
        key.rpartition(":")[2]: value for key, value in irsa["Condition"]["StringEquals"].items()
    }
    assert equals == {"aud": "sts.amazonaws.com", "sub": subject}
    (pod,) = statements("trust-pod-identity.json")
    assert pod["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert set(pod["Action"]) == {"sts:AssumeRole", "sts:TagSession"}


def test_resources_are_those_of_the_overlays() -> None:
    """
    The group and the prefix of the policies are the ones that the overlays write to.
    """
    both = (KUBERNETES / "overlays" / "both" / "tailrace.yaml").read_text()
    assert "group: /aws/containerinsights/{cluster}/application\n" in both
    assert "url: s3://${ARCHIVE_BUCKET}/logs\n" in both
    for name in ("cloudwatch.json", "cloudwatch-groups.json"):
        (statement,) = statements(name)
        for resource in statement["Resource"]:
            assert ":log-group:/aws/containerinsights/CLUSTER_NAME/application" in resource
    assert statements("s3.json")[0]["Resource"] == ["arn:aws:s3:::ARCHIVE_BUCKET/logs/*"]
