"""
What the API server says about the containers of this node, by pod uid.

`apply_pod` and `apply_namespace` take objects in, `find` returns the Metadata of one container.  A Metadata never
changes: an edit of a label makes a new one with a higher `version`, so that a segment read later shows it.

- A pod is found by `metadata.uid`, and a static pod by the hash in its log directory, which its mirror pod carries
  in an annotation (facts: static pods).  A hash only counts together with namespace and name, so that no pod can
  claim another one's lines by an annotation.
- A pod that replaces another one under its name is another uid.
- A pod that was deleted stays until `release`: its logs are drained later.  At most `deleted_max` stay; the one
  deleted first goes first.

No I/O and no clock.
"""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING

from agent.core.pod_facts import Container, Keep, Metadata, Wanted

if TYPE_CHECKING:
    from agent.core.kube_objects import NamespaceObject, PodObject
    from agent.core.pod_facts import Pairs, PodFacts

#: Pods of one node.  Kubernetes supports 110, the largest EC2 instances take 737.
PODS_MAX = 2048
#: Kubernetes is tested with 10,000 namespaces in a cluster.
NAMESPACES_MAX = 10_000
#: Deleted pods whose logs are not drained: a node that churns 1,000 pods behind an outage.
DELETED_MAX = 1024


class _Entry:
    __slots__ = ("deleted", "made", "pod", "version")

    def __init__(self, pod: PodFacts, version: int) -> None:
        self.pod = pod
        self.version = version
        self.deleted = False
        #: (container, restart) → Metadata that was asked for.
        self.made: dict[tuple[str, str], Metadata] = {}


class Pods:
    """
    The pods of one node and the namespaces of the cluster.
    """

    def __init__(self, wanted: Wanted | None = None, *, deleted_max: int = DELETED_MAX) -> None:
        self._keep = Keep(wanted or Wanted())
        self._deleted_max = deleted_max
        self._entries: dict[str, _Entry] = {}
        #: (hash, namespace, name) → uid of the mirror pod.
        self._aliases: dict[tuple[str, str, str], str] = {}
        #: uids in the order of their deletion.
        self._deleted: dict[str, None] = {}
        self._namespaces: dict[str, Pairs] = {}
        #: Grows with every change that a Metadata could show.
        self.version = 0
        #: Gone, while pods still show their labels.
        self._namespaces_deleted: set[str] = set()
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """
        Objects and parts of objects that were not kept because of a limit.
        """
        return self._dropped + self._keep.dropped

    @property
    def live(self) -> int:
        """
        Pods that exist.
        """
        return len(self._entries) - len(self._deleted)

    @property
    def deleted(self) -> int:
        """
        Pods that are gone and not released.
        """
        return len(self._deleted)

    @property
    def namespaces(self) -> int:
        """
        Namespaces that are known.
        """
        return len(self._namespaces)

    # -- what is asked ------------------------------------------------------------------------

    def find(
        self, uid: str, container: str, *, namespace: str, pod: str, restart: str = ""
    ) -> Metadata | None:
        """
        Return the Metadata of the container whose log is at `<namespace>_<pod>_<uid>/<container>/<restart>.log`.

        The same object is returned until something changes.  None where the pod is not known.
        """
        entry = self._entries.get(uid)
        if entry is None:
            entry = self._entries.get(self._aliases.get((uid, namespace, pod), ""))
        if entry is None or (entry.pod.namespace, entry.pod.name) != (namespace, pod):
            return None
        made = entry.made.get((container, restart))
        if made is None:
            made = entry.made[container, restart] = self._metadata(entry, container, restart)
        return made

    def release(self, uid: str, *, namespace: str, pod: str) -> None:
        """
        Forget the pod if it is deleted: its logs are drained.  *uid* may be a static pod's hash.
        """
        if uid not in self._entries:
            uid = self._aliases.get((uid, namespace, pod), "")
        if uid in self._deleted:
            self._forget(uid)

    # -- what is observed ---------------------------------------------------------------------

    def apply_pod(self, pod: PodObject) -> bool:
        """
        Take in a pod; return whether anything that is kept has changed.
        """
        made = self._keep.of_pod(pod)
        if not made.uid:
            return False
        entry = self._entries.get(made.uid)
        if entry is None and self.live >= PODS_MAX:
            self._dropped += 1
            return False
        if entry is not None and entry.deleted:
            # An old list after a restart of the API server: it is there after all.
            entry.deleted = False
            del self._deleted[made.uid]
        if entry is not None and entry.pod == made:
            return False
        self.version += 1
        if entry is None:
            self._entries[made.uid] = _Entry(made, self.version)
        else:
            self._drop_aliases(entry.pod)
            entry.pod, entry.version = made, self.version
            entry.made.clear()
        for alias in made.aliases:
            self._aliases[alias, made.namespace, made.name] = made.uid
        return True

    def delete_pod(self, uid: str) -> None:
        """
        Note that a pod is gone; it stays until it is released.
        """
        entry = self._entries.get(uid)
        if entry is None or entry.deleted:
            return
        entry.deleted = True
        self._deleted[uid] = None
        while len(self._deleted) > self._deleted_max:
            self._forget(next(iter(self._deleted)))

    def apply_namespace(self, namespace: NamespaceObject) -> bool:
        """
        Take in a namespace; return whether anything that is kept has changed.
        """
        name = intern(namespace.metadata.name)
        if name not in self._namespaces and len(self._namespaces) >= NAMESPACES_MAX:
            self._dropped += 1
            return False
        self._namespaces_deleted.discard(name)
        labels = self._keep.of_namespace(namespace.metadata)
        if self._namespaces.get(name) == labels:
            return False
        self._namespaces[name] = labels
        self.version += 1
        for entry in self._entries.values():
            if entry.pod.namespace == name:
                entry.version = self.version
                entry.made.clear()
        return True

    def delete_namespace(self, name: str) -> None:
        """
        Note that a namespace is gone; what pods of it show stays as long as they do.
        """
        if name in self._namespaces:
            self._namespaces_deleted.add(name)
            self._forget_namespace(name)

    # -- parts --------------------------------------------------------------------------------

    def _forget(self, uid: str) -> None:
        entry = self._entries.pop(uid)
        del self._deleted[uid]
        self._drop_aliases(entry.pod)
        self._forget_namespace(entry.pod.namespace)

    def _forget_namespace(self, name: str) -> None:
        if name in self._namespaces_deleted and not any(
            entry.pod.namespace == name for entry in self._entries.values()
        ):
            self._namespaces_deleted.remove(name)
            del self._namespaces[name]

    def _drop_aliases(self, pod: PodFacts) -> None:
        for alias in pod.aliases:
            key = (alias, pod.namespace, pod.name)
            # A mirror pod that was made anew has taken the hash over.
            if self._aliases.get(key) == pod.uid:
                del self._aliases[key]

    def _metadata(self, entry: _Entry, name: str, restart: str) -> Metadata:
        pod = entry.pod
        found = next((item for item in pod.containers if item.name == name), None)
        container = found or Container(name, "", "", "", 0, "")
        count = int(restart) if restart.isdigit() else container.restart_count
        identity = container.id
        if count != container.restart_count:
            identity = container.id_before if count == container.restart_count - 1 else ""
        return Metadata(
            version=entry.version,
            namespace=pod.namespace,
            pod=pod.name,
            pod_uid=pod.uid,
            container=name,
            container_id=identity,
            image=container.image,
            image_id=container.image_id,
            restart_count=count,
            node=pod.node,
            pod_ip=pod.ip,
            labels=pod.labels,
            annotations=pod.annotations,
            namespace_labels=self._namespaces.get(pod.namespace, ()),
            owners=pod.owners,
            owner_kind=pod.owner[0],
            owner_name=pod.owner[1],
            deciding_labels=pod.deciding_labels,
            deciding_annotations=pod.deciding_annotations,
        )
