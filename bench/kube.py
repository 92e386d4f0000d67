"""
An API server that knows the pods of a corpus: `python -m bench.kube --directory DIR --tree ROOT`.

It prints one line of JSON with its URL, its authority and a kubeconfig, and answers, over TLS,

| request | with |
|---|---|
| GET /api/v1/pods, /api/v1/namespaces | a list; with `watch`, what is there as events, then silence |
| GET /api/v1/namespaces/NS/pods/NAME | that pod |
| GET /api/v1/nodes/NAME | the node |

It is generous on purpose: no token is checked, nothing ever changes.  tests/ has the strict fake.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import glob
import json
import os
import signal
import ssl
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvloop
import yaml
from aiohttp import web

from bench.certificates import write_certificates
from bench.measure import pinned
from bench.pods import LABELS, namespace_object, node_object, parts_of, pod_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VERSION = "1000"
TOKEN = "bench"  # noqa: S105 - nobody checks it
INITIAL_END = {"k8s.io/initial-events-end": "true"}
KINDS = {"pods": "Pod", "namespaces": "Namespace"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeAccess:
    """
    How programs reach the server.
    """

    url: str
    authority: str
    kubeconfig: str
    token_file: str


class KubeApi:
    """
    The objects, encoded once.
    """

    def __init__(self, paths: Sequence[str], labels: int) -> None:
        found = [pod_object(path, labels=labels) for path in paths]
        self._objects: dict[str, list[dict[str, Any]]] = {
            "pods": found,
            "namespaces": [
                namespace_object(name) for name in sorted({parts_of(path)[0] for path in paths})
            ],
        }
        self._pods = {
            (item["metadata"]["namespace"], item["metadata"]["name"]): item for item in found
        }
        self.stopped = asyncio.Event()

    async def collection(self, request: web.Request) -> web.StreamResponse:
        """
        Answer a list or a watch.
        """
        kind = request.match_info["kind"]
        if kind not in KINDS:
            raise web.HTTPNotFound
        items = self._objects[kind]
        if request.query.get("watch") not in {"1", "true"}:
            meta = {"resourceVersion": VERSION}
            return web.json_response(
                {"kind": f"{KINDS[kind]}List", "apiVersion": "v1", "metadata": meta, "items": items}
            )
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        if request.query.get("sendInitialEvents") == "true":
            mark = {"resourceVersion": VERSION, "annotations": INITIAL_END}
            events = [{"type": "ADDED", "object": item} for item in items]
            events.append({"type": "BOOKMARK", "object": {"kind": KINDS[kind], "metadata": mark}})
            for event in events:
                await response.write(json.dumps(event).encode() + b"\n")
        await self.stopped.wait()
        return response

    async def pod(self, request: web.Request) -> web.Response:
        """
        Answer with one pod.
        """
        item = self._pods.get((request.match_info["namespace"], request.match_info["name"]))
        if item is None:
            raise web.HTTPNotFound
        return web.json_response(item)

    async def node(self, _: web.Request) -> web.Response:
        """
        Answer with the node.
        """
        return web.json_response(node_object())


def write_kubeconfig(directory: str, url: str, authority: str) -> str:
    """
    Write a kubeconfig with a token and return its path.
    """
    tree = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "bench",
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        "clusters": [
            {"name": "bench", "cluster": {"server": url, "certificate-authority": authority}}
        ],
        "users": [{"name": "bench", "user": {"token": TOKEN}}],
    }
    path = os.path.join(directory, "kubeconfig")
    with open(path, "w") as file:
        yaml.safe_dump(tree, file)
    return path


async def serve(directory: str, paths: Sequence[str], labels: int) -> None:
    """
    Serve on a free loopback port until SIGTERM.
    """
    certificates = write_certificates(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    api = KubeApi(paths, labels)
    app = web.Application()
    app.router.add_get("/api/v1/namespaces/{namespace}/pods/{name}", api.pod)
    app.router.add_get("/api/v1/nodes/{name}", api.node)
    app.router.add_get("/api/v1/{kind}", api.collection)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, api.stopped.set)
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    token_file = os.path.join(directory, "token")
    with open(token_file, "w") as file:
        file.write(TOKEN)
    access = {
        "url": url,
        "authority": certificates.authority,
        "kubeconfig": write_kubeconfig(directory, url, certificates.authority),
        "token_file": token_file,
    }
    print(json.dumps(access), flush=True)
    await api.stopped.wait()
    await runner.cleanup()


@contextlib.contextmanager
def kube_api(directory: str, tree: str, *, core: int, labels: int = LABELS) -> Iterator[KubeAccess]:
    """
    Run the server beside, for the length of the block; *tree* holds `pods/`, or nothing.
    """
    os.makedirs(directory, exist_ok=True)
    command = [sys.executable, "-m", "bench.kube", "--directory", directory]
    command += ["--tree", tree, "--labels", str(labels)]
    with subprocess.Popen(pinned(command, core), stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            yield KubeAccess(**json.loads(server.stdout.readline()))
        finally:
            server.terminate()


def main() -> int:
    """
    Serve.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--directory", required=True, help="where certificates and kubeconfig go")
    parser.add_argument("--tree", required=True, help="directory that holds pods/")
    parser.add_argument("--labels", type=int, default=LABELS, help="labels of a pod")
    options = parser.parse_args()
    os.makedirs(options.directory, exist_ok=True)
    # One file a container: the live one.
    paths = sorted(
        glob.glob(os.path.join(glob.escape(options.tree), "pods", "*_*_*", "*", "0.log"))
    )
    uvloop.run(serve(options.directory, paths, options.labels))
    return 0


if __name__ == "__main__":
    sys.exit(main())
