"""
`config/athena/`: tables are what `tailrace ddl` prints, and every query runs over Parquet that Tailrace wrote.

Queries are in Athena's dialect.  DuckDB has the same functions under other names, which the macros say.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
import yaml

from agent.sources.spooled import record
from tests.e2e.world import tailrace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).resolve().parents[2]
ATHENA = ROOT / "config" / "athena"
EXAMPLES = ROOT / "config" / "examples"
ENVIRONMENT = {"CLUSTER_NAME": "production", "ARCHIVE_BUCKET": "my-logs"}
TABLES = {
    "audit": "control-plane.yaml",
    "components": "control-plane.yaml",
    "authenticator": "control-plane.yaml",
    "host": "control-plane.yaml",
    "eks_audit": "eks-control-plane.yaml",
    "eks_components": "eks-control-plane.yaml",
    "eks_authenticator": "eks-control-plane.yaml",
}
VIEWS = sorted(path.stem for path in (ATHENA / "views").glob("*.sql"))
#: What only nodes have; and what reads the table with all its copies.
NOT_OF_VIEWS = {"slow-etcd", "logins-to-nodes", "eks-events-twice"}
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
    "eks-events-twice": (("production", 2, 5), 1),
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


def fetched(directory: Path) -> list[Path]:
    """
    Write what one agent has fetched of EKS, as its spool has it; return the files.
    """
    events = {
        "audit": AUDIT,
        "kube-apiserver": ["\n".join(APISERVER[:3]), *APISERVER[3:]],
        "kube-scheduler": SCHEDULER,
        "aws-iam-authenticator": AUTHENTICATOR,
    }
    made = []
    directory.mkdir(parents=True)
    for component, messages in events.items():
        time_ns = int(datetime.fromisoformat(f"{DAY}:00Z").timestamp()) * 1_000_000_000
        lines = [
            record(
                message,
                time_ns=time_ns + number * 1_000_000_000,
                attrs={
                    "event_id": f"{component}-{number}",
                    "cluster": "production",
                    "log_type": component,
                    "log_stream": f"{component}-0123",
                },
            )
            for number, message in enumerate(messages)
        ]
        made.append(directory / f"{component}.log")
        made[-1].write_bytes(b"".join(lines))
    return made


async def replay(archive: Path, example: str, node: str, paths: list[Path]) -> None:
    """
    Let *node* write what is in *paths* into the archive, with an example's routes.
    """
    config = yaml.safe_load((EXAMPLES / example).read_text())
    config |= {"cluster": "production", "node": node}
    for route in config["routes"]:
        name = route["name"].replace("-", "_")
        route["sink"]["url"] = f"file://{archive}/{name}"
        route["sink"]["region"] = ""
    path = archive / f"{node}-{example}"
    path.write_text(yaml.safe_dump(config))
    done = await tailrace("replay", "-c", path, *paths)
    assert done.code == 0, done.err
    assert "unparsed_lines" not in done.err
    assert "unknown_component" not in done.err


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("athena")


@pytest.fixture
async def database(archive: Path) -> AsyncIterator[duckdb.DuckDBPyConnection]:
    """
    The tables over what the examples have written to a directory.

    Of EKS, the second agent has fetched the last five audit events and all of the rest again.
    """
    if not (archive / "done").exists():
        await replay(archive, "control-plane.yaml", "node-1", write(archive / "logs"))
        first, second = fetched(archive / "first"), fetched(archive / "second")
        late = second[0].read_bytes().splitlines(keepends=True)[-5:]
        second[0].write_bytes(b"".join(late))
        await replay(archive, "eks-control-plane.yaml", "node-1", first)
        await replay(archive, "eks-control-plane.yaml", "node-2", second)
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
    route = table.replace("_", "-")
    done = await tailrace("ddl", "-c", EXAMPLES / TABLES[table], route, env=ENVIRONMENT)
    assert done.code == 0, done.err
    assert (ATHENA / "tables" / f"{table}.sql").read_text() == done.out


async def test_queries(database: duckdb.DuckDBPyConnection) -> None:
    """
    Every query finds what it is to find, and nothing of another day.
    """
    check_queries(database, QUERIES)


async def test_queries_over_the_views(database: duckdb.DuckDBPyConnection) -> None:
    """
    What EKS has written is found by the same queries, each event once, though two agents have fetched it.
    """
    make_views(database)
    (rows,) = database.execute("SELECT count(*) FROM eks_audit").fetchall()
    assert rows == (len(AUDIT) + 5,)
    for view in VIEWS:
        once = database.execute(f"SELECT count(*), count(DISTINCT event_id) FROM {view}").fetchall()
        every = database.execute(f"SELECT count(DISTINCT event_id) FROM eks_{view}").fetchall()
        assert once == [every[0] * 2], view
    check_queries(database, [query for query in QUERIES if query not in NOT_OF_VIEWS])


@pytest.mark.parametrize("view", VIEWS)
async def test_a_view_reads_the_days_that_are_asked_for(
    view: str, database: duckdb.DuckDBPyConnection
) -> None:
    """
    A condition on the day reaches the files, through what removes duplicates.
    """
    make_views(database)
    sql = f"EXPLAIN SELECT message FROM {view} WHERE dt = '2026-11-21' AND hour = '19'"
    plan = "".join(row[1] for row in database.execute(sql).fetchall())
    assert "Scanning Files: 0/" in plan or "EMPTY_RESULT" in plan, plan


def make_views(database: duckdb.DuckDBPyConnection) -> None:
    for view in VIEWS:
        database.execute((ATHENA / "views" / f"{view}.sql").read_text())


def check_queries(database: duckdb.DuckDBPyConnection, queries: list[str]) -> None:
    for query in queries:
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
