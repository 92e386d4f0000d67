"""
Every path configures every program, and both know the corpus's pods.
"""

from __future__ import annotations

import argparse
import json
import ssl
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.config.load import load
from bench import paths
from bench.beside import ask, counting_server, servers
from bench.corpus import write_corpus
from bench.kube import KubeAccess, kube_api
from bench.peers import PEERS, peer_of
from bench.pods import NODE, container_id, link_containers, parts_of
from bench.runs import Bench, Run, settled

ENDPOINTS = paths.Endpoints(
    plain="http://127.0.0.1:1000",
    tls="https://127.0.0.1:2000",
    authority="/ca.pem",
    kube=KubeAccess(
        url="https://127.0.0.1:3000",
        authority="/kube/ca.pem",
        kubeconfig="/kube/kubeconfig",
        token_file="/kube/token",
    ),
)


@pytest.mark.parametrize("path", paths.PATHS)
def test_every_path_configures_both_programs(tmp_path: Path, path: str) -> None:
    """
    Endpoints, patterns and directories are filled in; ours is a configuration that the agent takes.
    """
    mine = paths.tailrace_config(path, ENDPOINTS, directory=str(tmp_path), pattern="/p/*.log")
    config = load(mine)
    assert len(config.routes) == (2 if path == "both" else 1)
    assert bool(config.kubernetes.kubeconfig) == (path in paths.ASKING)
    for name, make in PEERS.items():
        peer = make("/bin/peer")
        for command in (peer.reads, peer.follows):
            arguments = command(path, ENDPOINTS, directory=str(tmp_path), containers="/c")
            text = Path(arguments[-1]).read_text()
            assert arguments[0] == "/bin/peer"
            assert "/c/*.log" in text
            assert "{" not in text
            assert ("127.0.0.1:3000" in text) == (path in paths.ASKING)
        assert peer.name == name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("fluent-bit", "expected NAME=PATH"),
        ("fluent-bit=", "expected NAME=PATH"),
        ("fluentbit=/bin/true", "got 'fluentbit', expected one of fluent-bit"),
        ("fluent-bit=/no/such/program", "/no/such/program: no such program"),
    ],
)
def test_a_wrong_peer_is_said(given: str, said: str) -> None:
    """
    With what was expected.
    """
    with pytest.raises(argparse.ArgumentTypeError, match=said):
        peer_of(given)
    assert peer_of(f"fluent-bit={sys.executable}").name == "fluent-bit"


def get(access: KubeAccess, target: str) -> Any:
    context = ssl.create_default_context(cafile=access.authority)
    with urllib.request.urlopen(access.url + target, timeout=10, context=context) as answer:
        return json.load(answer)


def test_the_api_server_knows_the_pods(tmp_path: Path) -> None:
    """
    In lists, and one by one, as a peer asks; links carry names from which a peer knows the pod.
    """
    files = write_corpus(str(tmp_path), kind="access", mib=0.1, files=3).files
    links = sorted(Path(link_containers(str(tmp_path), files)).iterdir())
    assert sorted(str(link.readlink()) for link in links) == sorted(files)
    with kube_api(str(tmp_path / "kube"), str(tmp_path), core=1, labels=11) as access:
        items = get(access, f"/api/v1/pods?fieldSelector=spec.nodeName={NODE}")["items"]
        assert {item["metadata"]["uid"] for item in items} == {parts_of(path)[2] for path in files}
        namespace, pod, uid, container = parts_of(files[0])
        one = get(access, f"/api/v1/namespaces/{namespace}/pods/{pod}")
        assert one["metadata"]["uid"] == uid
        assert len(one["metadata"]["labels"]) == 11
        assert one["status"]["containerStatuses"][0]["containerID"].endswith(container_id(files[0]))
        assert any(
            link.name == f"{pod}_{namespace}_{container}-{container_id(files[0])}.log"
            for link in links
        )
        with pytest.raises(urllib.error.HTTPError):
            get(access, "/api/v1/namespaces/none/pods/none")


@pytest.mark.timeout(
    240
)  # Two starts of the agent and of two servers, on a machine that may be busy.
def test_a_run_counts_what_arrived(tmp_path: Path) -> None:
    """
    Every row, in records that grew by what is known of the pod; nothing is left of the run.
    """
    tree = tmp_path / "corpus"
    manifest = write_corpus(str(tree), kind="halves", mib=0.2, files=2)
    with servers(str(tmp_path), str(tree)) as endpoints:
        run = Bench(str(tmp_path), manifest, endpoints).tailrace("cloudwatch")
        assert run.events == manifest.rows
        # Labels alone are 300 bytes; without metadata a record is three times its line.
        assert run.body_bytes > manifest.bytes + 700 * manifest.rows
        assert run.wire_bytes < manifest.bytes
        assert run.startup_cpu_s > 0
        assert ask(endpoints, "/counts")["s3"]["objects"] == 0
    assert {item.name for item in tmp_path.iterdir() if item.is_dir()} == {
        "corpus",
        "empty",
        "kube",
    }


@pytest.mark.timeout(240)
def test_what_was_not_delivered_is_an_error(tmp_path: Path) -> None:
    """
    A run that lost a row has no figures.
    """
    tree = tmp_path / "corpus"
    manifest = write_corpus(str(tree), kind="access", mib=0.05)
    with open(manifest.files[0], "r+b") as file:
        file.truncate(manifest.bytes - 1_000)
    with counting_server(str(tmp_path)) as endpoints:
        bench = Bench(str(tmp_path), manifest, endpoints)
        with pytest.raises(RuntimeError, match=f"not all of {manifest.rows:,} rows"):
            bench.tailrace("blackhole")


def test_start_ups_are_settled(tmp_path: Path) -> None:
    """
    One slow start does not make its run look cheap.
    """
    made = Run(
        program="a",
        path="b",
        cost=None,  # type: ignore[arg-type]
        startup_s=0,
        startup_cpu_s=0.3,
        size=1,
        wire_bytes=0,
        body_bytes=0,
        object_bytes=0,
        events=0,
    )
    starts = [settled([replace(made, startup_cpu_s=value) for value in (0.3, 0.4, 2.0)])]
    assert [run.startup_cpu_s for run in starts[0]] == [0.4, 0.4, 0.4]
    assert settled([made, replace(made, program="c", startup_cpu_s=9)])[0].startup_cpu_s == 0.3
