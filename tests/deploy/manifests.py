"""
The manifests of config/kubernetes: as they are written, and as kustomize renders them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
KUBERNETES = REPOSITORY / "config" / "kubernetes"
OVERLAYS = ("cloudwatch", "s3", "both", "local")
COMPONENTS = ("irsa", "pod-identity", "podmonitor", "docker", "any-owner", "eks-control-plane")
#: The oldest one that EKS still sold extended support for when this was written, and the newest one known.
KUBERNETES_VERSIONS = ("1.31", "1.37")

Manifest = dict[str, Any]


def kustomize() -> list[str]:
    """
    Return the command that renders a directory; skips where there is none.
    """
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    pytest.skip("neither kubectl nor kustomize is installed")


def render(directory: Path) -> list[Manifest]:
    """
    Return what applying *directory* would apply.
    """
    done = subprocess.run(
        [*kustomize(), str(directory)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


@cache
def overlay(name: str) -> tuple[Manifest, ...]:
    """
    Return the rendered overlay *name*.
    """
    return tuple(render(KUBERNETES / "overlays" / name))


def custom(directory: Path, kustomization: Manifest) -> list[Manifest]:
    """
    Render a kustomization of somebody's own; its resources and components are named from KUBERNETES.
    """
    for key in ("resources", "components"):
        kustomization[key] = [
            os.path.relpath(KUBERNETES / item, directory) for item in kustomization.get(key, [])
        ]
    kustomization |= {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(directory)


def written() -> list[tuple[str, Manifest]]:
    """
    Return every complete manifest below config/kubernetes with its path: kustomizations and configurations left out.
    """
    found = []
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        if path.name not in {"kustomization.yaml", "tailrace.yaml"}:
            name = str(path.relative_to(KUBERNETES))
            found += [(name, item) for item in yaml.safe_load_all(path.read_text()) if item]
    return found


def only(manifests: Any, kind: str, name: str = "tailrace") -> Manifest:
    """
    Return the one manifest of *kind* whose name is *name*, or *name* and the hash of its content.
    """
    (found,) = [
        item
        for item in manifests
        if item["kind"] == kind
        and (
            item["metadata"]["name"] == name or item["metadata"]["name"].rpartition("-")[0] == name
        )
    ]
    assert isinstance(found, dict)
    return found


def container(daemon_set: Manifest) -> Manifest:
    """
    Return the agent's container.
    """
    (found,) = daemon_set["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found
