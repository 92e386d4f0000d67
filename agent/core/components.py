"""
The components of a node and of its control plane: where their lines are, and what they write.

| component | files | lines |
|---|---|---|
| kube-apiserver, kube-controller-manager, kube-scheduler | static pods, `/var/log/NAME.log` | klog: text, JSON |
| cloud-controller-manager | the same, also called aws-cloud-controller-manager | klog |
| etcd | static pod, `/var/log/etcd.log` | JSON of zap; before 3.5 text of capnslog |
| audit | `/var/log/kube*/audit.log`, `/var/log/kube*/audit/*.log` | `audit.k8s.io/v1`, a JSON object a line |
| aws-iam-authenticator | DaemonSet, `/var/log/aws-iam-authenticator.log` | logfmt, JSON |
| kubelet, containerd | the journal of systemd; kube-proxy: DaemonSet | klog; logfmt |
| messages | `/var/log/messages`; of Debian `syslog` | RFC 3164 as rsyslog writes it, or with a time of RFC 3339 |
| secure | `/var/log/secure`; of Debian `auth.log` | the same |
| dmesg | `/var/log/dmesg` | `[seconds since boot] text` |

A Log's component is its container: that of the pod where there is one, else the one whose glob it matches, else
the one whose files are called like it (a file that is replayed from elsewhere).

No I/O.
"""

from __future__ import annotations

import fnmatch
import posixpath
from typing import TYPE_CHECKING, Literal, NamedTuple

from agent.core.rotated_names import as_rotated

if TYPE_CHECKING:
    from collections.abc import Iterable

ComponentName = Literal[
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "cloud-controller-manager",
    "etcd",
    "audit",
    "aws-iam-authenticator",
    "kube-proxy",
    "dmesg",
    "messages",
    "secure",
]
Kind = Literal["klog", "audit", "logfmt", "etcd", "syslog", "dmesg"]


class Component(NamedTuple):
    """
    Files of a component, and what is in them.
    """

    kind: Kind
    paths: tuple[str, ...]


class SetColumn(NamedTuple):
    """
    A column of a set: its name, its type in Athena, and the field that fills it.
    """

    name: str
    type: str
    field: str


def _in_pods(name: str) -> tuple[str, ...]:
    # A static pod is called NAME-<node>, one of a DaemonSet NAME-<random>.
    return (f"/var/log/pods/kube-system_{name}-*_*/{name}/*.log", f"/var/log/{name}.log")


COMPONENTS: dict[str, Component] = {
    "kube-apiserver": Component("klog", _in_pods("kube-apiserver")),
    "kube-controller-manager": Component("klog", _in_pods("kube-controller-manager")),
    "kube-scheduler": Component("klog", _in_pods("kube-scheduler")),
    "cloud-controller-manager": Component(
        "klog", (*_in_pods("cloud-controller-manager"), *_in_pods("aws-cloud-controller-manager"))
    ),
    "etcd": Component("etcd", _in_pods("etcd")),
    "audit": Component(
        "audit",
        (
            # No literal directory that may not be there: one is looked for once a second.
            "/var/log/kube*/audit/*.log",
            "/var/log/kube*/audit.log",
            "/var/log/kube-audit.log",
        ),
    ),
    "aws-iam-authenticator": Component("logfmt", _in_pods("aws-iam-authenticator")),
    "kube-proxy": Component("klog", _in_pods("kube-proxy")),
    "dmesg": Component("dmesg", ("/var/log/dmesg",)),
    "messages": Component("syslog", ("/var/log/messages", "/var/log/syslog")),
    "secure": Component("syslog", ("/var/log/secure", "/var/log/auth.log")),
}

#: Followed by a source that names none: what a node of a control plane has, not what a worker has.
CONTROL_PLANE: tuple[ComponentName, ...] = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "cloud-controller-manager",
    "etcd",
    "audit",
    "aws-iam-authenticator",
)

#: What is written under other names than a component's own: containers, units of systemd.
_KINDS: dict[str, Kind] = {
    **{name: component.kind for name, component in COMPONENTS.items()},
    "aws-cloud-controller-manager": "klog",
    "kubelet": "klog",
    "containerd": "logfmt",
    "kubelet.service": "klog",
    "containerd.service": "logfmt",
}

_AUDIT = (
    ("audit_id", "string", "auditID"),
    ("stage", "string", "stage"),
    ("audit_level", "string", "level"),
    ("verb", "string", "verb"),
    ("username", "string", "user.username"),
    ("groups", "string", "user.groups"),
    ("impersonated_user", "string", "impersonatedUser.username"),
    ("source_ips", "string", "sourceIPs"),
    ("user_agent", "string", "userAgent"),
    ("request_uri", "string", "requestURI"),
    ("resource", "string", "objectRef.resource"),
    ("api_group", "string", "objectRef.apiGroup"),
    ("object_namespace", "string", "objectRef.namespace"),
    ("object_name", "string", "objectRef.name"),
    ("subresource", "string", "objectRef.subresource"),
    ("code", "bigint", "responseStatus.code"),
    ("reason", "string", "responseStatus.reason"),
    ("latency_ms", "double", "latency_ms"),
    ("decision", "string", "annotations.authorization.k8s.io/decision"),
    ("decision_reason", "string", "annotations.authorization.k8s.io/reason"),
    ("request_object", "string", "requestObject"),
    ("response_object", "string", "responseObject"),
    ("event_truncated", "boolean", "annotations.audit.k8s.io/truncated"),
)
_COMPONENTS = (
    ("msg", "string", "msg"),
    ("caller", "string", "caller"),
    ("err", "string", "err"),
    ("error", "string", "error"),
    ("logger", "string", "logger"),
    ("verbosity", "bigint", "v"),
)
_AUTHENTICATOR = (
    ("msg", "string", "msg"),
    ("error", "string", "error"),
    ("arn", "string", "arn"),
    ("mapped_username", "string", "username"),
    ("mapped_groups", "string", "groups"),
    ("client", "string", "client"),
    ("account_id", "string", "accountid"),
    ("access_key_id", "string", "accesskeyid"),
    ("session", "string", "session"),
    ("sts_endpoint", "string", "stsendpoint"),
)
_HOST = (
    ("host", "string", "host"),
    ("ident", "string", "ident"),
    ("pid", "bigint", "pid"),
    ("text", "string", "message"),
)
ColumnSet = Literal["audit", "components", "authenticator", "host"]
COLUMN_SETS: dict[ColumnSet, tuple[SetColumn, ...]] = {
    "audit": tuple(SetColumn(*item) for item in _AUDIT),
    "components": tuple(SetColumn(*item) for item in _COMPONENTS),
    "authenticator": tuple(SetColumn(*item) for item in _AUTHENTICATOR),
    "host": tuple(SetColumn(*item) for item in _HOST),
}


#: Logs of a source that is no container's: a node has ten.
FOUND_MAX = 1024


def columns_of(sets: Iterable[ColumnSet]) -> tuple[SetColumn, ...]:
    """
    Return the columns of *sets*, those that several of them have once.
    """
    return tuple(dict.fromkeys(item for name in sets for item in COLUMN_SETS[name]))


def kind_of(container: str) -> Kind | None:
    """
    Return what *container* writes; None for one that is no component.
    """
    return _KINDS.get(container)


class ComponentPaths:
    """
    Which component a path without a pod belongs to.
    """

    def __init__(self, globs: Iterable[tuple[str, str]]) -> None:
        """
        Take pairs of a glob and the component whose files it matches; the first that matches counts.
        """
        self._globs = tuple(globs)
        self._names = {posixpath.basename(glob): name for glob, name in reversed(self._globs)}
        # `*.log` says nothing about a file that lies elsewhere.
        self._names.pop("*.log", None)
        #: What was found: a Log is asked about whenever it is looked at.
        self._found: dict[str, str] = {}

    def find(self, path: str) -> str:
        """
        Return the component of the Log *path*; empty for none.
        """
        found = self._found.get(path)
        if found is None:
            if len(self._found) >= FOUND_MAX:
                self._found.clear()
            found = self._found[path] = self._find(path)
        return found

    def _find(self, path: str) -> str:
        for glob, name in self._globs:
            if fnmatch.fnmatchcase(path, glob):
                return name
        name = posixpath.basename(path)
        parts = as_rotated(name)
        return self._names.get(name) or self._names.get(parts.live if parts else name, "")


class ComponentNames(ComponentPaths):
    """
    Files that are called like their component: those of a spool.
    """

    def __init__(self) -> None:
        super().__init__(())

    def find(self, path: str) -> str:
        """
        Return the component of the Log *path*; empty for none.
        """
        name = posixpath.basename(path)
        parts = as_rotated(name)
        live = parts.live if parts else name
        return live.removesuffix(".log") if live.endswith(".log") else ""
