"""
`config/athena/`: tables are what `tailrace ddl` prints, and every query runs over Parquet that Tailrace wrote.

Queries are in Athena's dialect.  DuckDB has the same functions under other names, which the macros say.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
import yaml

from tests.e2e.world import tailrace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).resolve().parents[2]
ATHENA = ROOT / "config" / "athena"
EXAMPLE = ROOT / "config" / "examples" / "control-plane.yaml"
ENVIRONMENT = {"CLUSTER_NAME": "production", "ARCHIVE_BUCKET": "my-logs"}
TABLES = ("audit", "components", "authenticator", "host")
QUERIES = sorted(path.stem for path in (ATHENA / "queries").glob("*.sql"))
_MACROS = """
CREATE MACRO approx_percentile(x, p) AS approx_quantile(x, p);
CREATE MACRO json_extract_scalar(x, path) AS json_extract_string(x, path);
CREATE MACRO json_array_contains(x, value) AS list_contains(from_json(x, '["VARCHAR"]'), value);
"""
AGENT = "kubectl/v1.31.0"
DAY = "2026-11-22T19:00"


def audit(name: str, second: int, verb: str, user: str, **more: Any) -> str:
    """
    Return an audit event; keys of `objectRef` are without it: `resource`, `object_namespace`, `object_name`.
    """
    reference = {
        key.removeprefix("object_"): more.pop(key)
        for key in ("resource", "object_namespace", "object_name", "subresource", "apiGroup")
        if key in more
    }
    event = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Request",
        "auditID": f"id-{name}",
        "stage": "ResponseComplete",
        "requestURI": f"/api/{name}",
        "verb": verb,
        "user": {"username": user, "groups": more.pop("groups", ["system:authenticated"])},
        "sourceIPs": ["203.0.113.9"],
        "userAgent": AGENT,
        "objectRef": reference,
        "responseStatus": {"code": more.pop("code", 200)},
        "requestReceivedTimestamp": f"{DAY}:{second:02}.000000Z",
        "stageTimestamp": f"{DAY}:{second:02}.{more.pop('ms', 5):03}000Z",
        "annotations": {"authorization.k8s.io/decision": more.pop("decision", "allow")},
    }
    return json.dumps(event | more)


IMAGE = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "shop/web:2"}]}}}}
AUDIT = [
    audit(
        "delete", 1, "delete", "alice", resource="deployments", object_namespace="shop",
        object_name="web", impersonatedUser={"username": "root"},
    ),
    audit("other", 2, "delete", "bob", resource="deployments", object_namespace="shop", object_name="db"),
    audit("denied", 3, "list", "eve", resource="secrets", code=403, decision="forbid", userAgent="nmap"),
    audit("denied", 4, "list", "eve", resource="secrets", code=403, decision="forbid", userAgent="nmap"),
    audit("slow", 5, "list", "prometheus", resource="pods", ms=900),
    audit("watch", 6, "watch", "prometheus", resource="pods", ms=999),
    audit("secret", 7, "get", "carol", resource="secrets", object_namespace="shop", object_name="key"),
    audit("exec", 8, "create", "carol", resource="pods", subresource="exec", object_name="web-1", code=101),
    audit("anonymous", 9, "get", "system:anonymous"),
    audit("healthz", 9, "get", "system:anonymous", requestURI="/healthz?x"),
    audit(
        "role", 10, "create", "dave", resource="clusterrolebindings", object_name="all",
        apiGroup="rbac.authorization.k8s.io", code=201, groups=["dev", "system:masters"],
    ),
    audit("broken", 11, "create", "dave", resource="pods", code=500),
    audit(
        "deploy", 12, "patch", "dave", resource="deployments", object_namespace="shop",
        object_name="web", requestObject=IMAGE,
    ),
]  # fmt: skip
APISERVER = [
    'E1122 19:00:01.000001       1 status.go:71] "Failed" err=<',
    "\ttwo lines",
    " >",
    'E1122 19:00:02.000001       1 status.go:71] "Failed" err="x"',
    'I1122 19:00:03.000001       1 a.go:1] "Fine"',
]
SCHEDULER = [
    "I1122 19:00:01.000001       1 leaderelection.go:258] successfully acquired lease kube-system/x"
]
ETCD = [
    json.dumps(
        {
            "level": "warn",
            "ts": f"{DAY}:01.5Z",
            "caller": "v3/util.go:170",
            "msg": "apply request took too long",
        }
    )
]
_DENIED = 'msg="access denied" error="ARN is not mapped" arn="arn:aws:iam::1:role/dev"'
_GRANTED = (
    'msg="access granted" arn="arn:aws:iam::1:role/ops" username=ops groups="[system:masters]"'
)
AUTHENTICATOR = [
    f'time="{DAY}:01Z" level=warning {_DENIED}',
    f'time="{DAY}:02Z" level=warning {_DENIED}',
    f'time="{DAY}:03Z" level=info {_GRANTED}',
]
SECURE = [
    f"{DAY}:01.5+00:00 ip-10-0-0-1 sshd[411]: Accepted publickey for ec2-user from 203.0.113.9",
    f"{DAY}:02.5+00:00 ip-10-0-0-1 sudo: root : TTY=pts/0",
]
#: The first row of each query, of those of its values that say that it found what it is to find; and how many rows.
EXPECTED: dict[str, tuple[tuple[object, ...], int]] = {
    "who-deleted-this": (("alice", "root", '["203.0.113.9"]', AGENT, "delete", 200), 1),
    "user-agents-that-get-403": (("nmap", "eve", "list", "secrets", 2), 1),
    "slowest-verbs": (("list", "pods", 1, 900.0), 8),
    "who-read-secrets": (("carol", "get", "shop", "key", 1), 1),
    "shells-in-pods": (("carol", "exec", "web-1", 101), 1),
    "anonymous-requests": (("/api/anonymous", "get", 200, 1), 1),
    "changes-of-rights": (("dave", "create", "clusterrolebindings", "all", 201), 1),
    "cluster-admins": (("dave", AGENT, 1), 1),
    "impersonation": (("alice", "root", "delete", "deployments", 1), 1),
    "busiest-clients": (("eve", "nmap", "list", "secrets", 2, 0.01), 11),
    "server-errors": ((500, "create", "pods", 1), 1),
    "images-that-were-deployed": (("dave", "shop", "web", "shop/web:2"), 1),
    "one-request": (("ResponseComplete", "Request", 200, 5.0, AUDIT[0]), 1),
    "errors-of-components": (("kube-apiserver", "status.go:71", "Failed", 2), 1),
    "changes-of-leader": (("node-1", "kube-scheduler"), 1),
    "slow-etcd": (("node-1", "apply request took too long", 1), 1),
    "authenticator-denials": (("arn:aws:iam::1:role/dev", "ARN is not mapped", 2), 1),
    "who-a-role-became": (("arn:aws:iam::1:role/ops", "ops", "[system:masters]", 1), 1),
    "logins-to-nodes": (("Accepted publickey for ec2-user from 203.0.113.9",), 1),
}


def write(directory: Path) -> list[Path]:
    """
    Write the files of a node of a control plane; return them.
    """
    files = {directory / "audit.log": AUDIT, directory / "secure": SECURE}
    for container, lines in {
        "kube-apiserver": APISERVER,
        "kube-scheduler": SCHEDULER,
        "etcd": ETCD,
        "aws-iam-authenticator": AUTHENTICATOR,
    }.items():
        path = directory / f"kube-system_{container}-node-1_0a1b" / container / "0.log"
        files[path] = [f"{DAY}:01.5Z stderr F {line}" for line in lines]
    for path, lines in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(line + "\n" for line in lines))
    return list(files)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("athena")


@pytest.fixture
async def database(archive: Path) -> AsyncIterator[duckdb.DuckDBPyConnection]:
    """
    The tables over what the example, replayed over a node's files, has written to a directory.
    """
    if not (archive / "done").exists():
        config = yaml.safe_load(EXAMPLE.read_text())
        config |= {"cluster": "production", "node": "node-1"}
        for route in config["routes"]:
            route["sink"]["url"] = f"file://{archive}/{route['name']}"
            route["sink"]["region"] = ""
        path = archive / "tailrace.yaml"
        path.write_text(yaml.safe_dump(config))
        done = await tailrace("replay", "-c", path, *write(archive / "logs"))
        assert done.code == 0, done.err
        assert "unparsed_lines" not in done.err
        assert "unknown_component" not in done.err
        (archive / "done").touch()
    connection = duckdb.connect()
    connection.execute(_MACROS)
    for table in TABLES:
        files = f"read_parquet('{archive}/{table}/**/*.parquet', hive_partitioning=true, hive_types_autocast=false)"
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM {files}")
    yield connection
    connection.close()


def test_every_query_is_run() -> None:
    assert set(QUERIES) == set(EXPECTED)


@pytest.mark.parametrize("table", TABLES)
async def test_tables(table: str) -> None:
    """
    A table is what `tailrace ddl` prints for the route of the example.
    """
    done = await tailrace("ddl", "-c", EXAMPLE, table, env=ENVIRONMENT)
    assert done.code == 0, done.err
    assert (ATHENA / "tables" / f"{table}.sql").read_text() == done.out


async def test_queries(database: duckdb.DuckDBPyConnection) -> None:
    """
    Every query finds what it is to find, and nothing of another day.
    """
    for query in QUERIES:
        text = (ATHENA / "queries" / f"{query}.sql").read_text()
        wanted, count = EXPECTED[query]
        rows = database.execute(text).fetchall()
        assert len(rows) == count, (query, rows)
        missing = [value for value in wanted if value not in rows[0]]
        assert not missing, (query, missing, rows[0])
        other = database.execute(text.replace("2026-11-22", "2026-11-21")).fetchall()
        assert other == [], query


async def test_columns_of_the_tables_are_those_of_the_files(
    database: duckdb.DuckDBPyConnection,
) -> None:
    for table in TABLES:
        declared = [
            line.split("`")[1]
            for line in (ATHENA / "tables" / f"{table}.sql").read_text().splitlines()
            if line.startswith("  `")
        ]
        found = [row[0] for row in database.execute(f"DESCRIBE {table}").fetchall()]
        assert sorted(found) == sorted(declared)
