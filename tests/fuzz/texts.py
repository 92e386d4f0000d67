"""
What people and Kubernetes write: configurations, kubeconfigs, selectors, templates, names of files.
"""

from __future__ import annotations

from agent.config.load import parse
from agent.config.problems import ConfigError
from agent.core.errors import StopError
from agent.core.kubelet_path import identity_seed, resource_of
from agent.core.labels import LabelSelector, LabelSelectorError
from agent.core.rotated_names import as_live, as_rotated, ignored
from agent.core.templates import Template, TemplateError
from agent.runtime.kubernetes_config import read_kubeconfig
from tests.fuzz.registry import Fuzzer, scratch

ENVIRONMENT = {"NODE_NAME": "node-1", "EMPTY": ""}
CONFIG = b"""\
cluster: production
node: ${NODE_NAME}
state_dir: /var/lib/tailrace
commit_interval_s: 1.0
memory_budget_bytes: 64MiB
log: {format: json, level: info}
sources:
  - name: containers
    type: files
    paths: ["/var/log/pods/*/*/*.log"]
    exclude: &a ["**/x.log"]
routes:
  - name: cloudwatch
    select:
      namespaces: [shop]
      labels: "app in (a, b), !c"
    sink:
      type: cloudwatch
      region: eu-central-1
      group: "/aws/{cluster}/{labels.app|none}"
      tags: {team: ${TEAM:-x}}
  - name: archive
    sink: {type: parquet, url: "s3://logs/prefix", window_age_s: 300, compression_level: 3}
"""
YAML = (
    *(
        b": ",
        b"\n",
        b"  ",
        b"- ",
        b"{",
        b"}",
        b"[",
        b"]",
        b"&a ",
        b"*a",
        b"<<: ",
        b"!!str ",
        b"!!python/object:x ",
    ),
    *(
        b"${NODE_NAME}",
        b"${X:-",
        b"$",
        b"|\n",
        b">-\n",
        b"'",
        b'"',
        b"#",
        b"? ",
        b"---\n",
        b"...\n",
        b"%TAG ! x\n",
    ),
    *(
        b"0o17",
        b"0x1f",
        b"1_000",
        b".inf",
        b"2026-13-45",
        b"yes",
        b"~",
        b"\t",
        b"\xe2\x80\xa8",
        b"\\x",
        b"5MiB",
        b"1e400",
    ),
    *(
        b"routes",
        b"sources",
        b"sink",
        b"type: blackhole",
        b"labels: ",
        b"{labels.app|",
        b"=",
        b"binary",
        b"\xf0\x9f\x9a\x80",
    ),
)


def said(error: Exception) -> None:
    """
    Check that *error* says something, in what can be printed.
    """
    assert str(error).encode()


def config(data: bytes) -> None:
    """
    A configuration, or every problem of it in words.
    """
    try:
        parse(data.decode("utf-8", "replace"), name="x.yaml", environ=ENVIRONMENT)
    except ConfigError as error:
        said(error)


def kubeconfig(data: bytes) -> None:
    """
    A way to the API server, or a reason to stop.
    """
    path = scratch("kubeconfig")
    with open(path, "wb") as file:
        file.write(data)
    try:
        read_kubeconfig(path)
    except StopError as error:
        said(error)


def selector(data: bytes) -> None:
    """
    A selector, which decides about any labels, or an error.
    """
    try:
        found = LabelSelector(data.decode("utf-8", "replace"))
    except LabelSelectorError as error:
        said(error)
        return
    for labels in ({}, {"app": "web"}, {"app": ""}):
        assert found.matches(labels) in (True, False)


def template(data: bytes) -> None:
    """
    A template, which renders to a name, or an error.
    """
    text, _, path = data.decode("utf-8", "replace").partition("\n")
    try:
        found = Template(text)
    except TemplateError as error:
        said(error)
        return
    found.render(resource_of("/" + path, cluster="c", node="n"))


def names(data: bytes) -> None:
    """
    Any file name has one place in any Log.
    """
    name = data.decode("utf-8", "surrogateescape").replace("/", "_")
    ignored(name)
    found = as_rotated(name)
    for one, other in ((found, as_live("0.log")), (found, as_rotated("0.log.1"))):
        if one is not None and other is not None:
            assert (one.order < other.order) in (True, False)
            assert one.live
    identity_seed(data.decode("utf-8", "surrogateescape"))
    resource_of(data.decode("utf-8", "surrogateescape"), cluster="c", node="n")


FUZZERS = (
    Fuzzer(
        "config", config, (CONFIG, b"routes: [{name: a, sink: {type: blackhole}}]"), YAML, cost=6
    ),
    Fuzzer(
        "kubeconfig",
        kubeconfig,
        (
            (
                b"apiVersion: v1\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"
                b"clusters:\n"
                b"- {name: k, cluster: {server: 'https://x:6443', certificate-authority-data: Zm9v}}\n"
                b"users:\n- name: u\n  user: {token: t, client-certificate: crt.pem}\n"
            ),
        ),
        (*YAML, b"contexts: ", b"token: 5", b"server: ", b"-data: "),
        cost=3,
    ),
    Fuzzer(
        "selector",
        selector,
        (b"app in (a, b), tier notin (x), !legacy, k8s.io/name==web, a!=b",),
        (b" in ", b" notin ", b"(", b")", b",", b"!", b"=", b"==", b"/", b".", b"\xff"),
    ),
    Fuzzer(
        "template",
        template,
        (
            (
                b"/aws/{cluster}/{labels.app.kubernetes.io/name|none}/{pod}\n"
                b"var/log/pods/shop_web-1_11111111-2222-3333-4444-555555555555/app/0.log"
            ),
        ),
        (
            b"{",
            b"}",
            b"{{",
            b"|",
            b"{pod}",
            b"{labels.",
            b"/",
            b":",
            b"*",
            b"\xff",
            b"\xed\xa0\x80",
        ),
    ),
    Fuzzer(
        "names",
        names,
        (
            b"0.log.20261122-101500.gz",
            b"app.log-20261122-1763806500",
            b"/p/shop_web_u-1/app/0.log",
            b"x.tmp",
        ),
        (b".log", b".gz", b".", b"-", b"_", b"20261122", b"/", b"\xd9\xa3", b"\xff"),
    ),
)
