"""
How to reach the API server: settings, the service account of a pod, or a kubeconfig.

The certificate of the server and its name are always verified; `insecure-skip-tls-verify`, and what needs a
program to be run (`exec`, `auth-provider`), is refused with words.  Files are read anew for every session, and
the token for every request: the kubelet replaces it at 80 % of its life.
"""

from __future__ import annotations

import base64
import os
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

from agent.core.errors import RetryError, StopError, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
#: A token is a JWT of about 1 KiB, a bundle of authorities some tens of KiB.
FILE_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesSettings:
    """
    Metadata of pods, from the API server.
    """

    enabled: Annotated[
        bool | Literal["auto", "true", "false"],
        Meta(
            description="Whether to ask the API server; auto: in a pod, or with a kubeconfig.",
            extra={"expected": "auto, true or false"},
        ),
    ] = "auto"
    node_name: Annotated[
        str, Meta(description="Node whose pods are asked for; empty: the agent's `node`.")
    ] = ""
    kubeconfig: Annotated[
        str, Meta(description="kubeconfig file to use instead of the pod's service account.")
    ] = ""
    metadata_wait_s: Annotated[
        float,
        Meta(
            ge=0, le=300, description="Seconds that a new file waits for the metadata of its pod."
        ),
    ] = 5
    labels: Annotated[
        tuple[str, ...], Meta(description="Globs of pod labels to keep; [] keeps none.")
    ] = ("*",)
    annotations: Annotated[
        tuple[str, ...], Meta(description="Globs of pod annotations to keep.")
    ] = ()
    namespace_labels: Annotated[
        tuple[str, ...],
        Meta(description="Globs of namespace labels to keep; [] does not ask for namespaces."),
    ] = ("*",)
    streaming_list: Annotated[
        bool, Meta(description="List by watching where the server can; false: in pages.")
    ] = True
    request_timeout_s: Annotated[
        float, Meta(gt=0, le=600, description="Seconds for a list, or for the start of a watch.")
    ] = 30
    idle_timeout_s: Annotated[
        float,
        Meta(
            gt=0,
            le=3600,
            description="Seconds without a word after which a watch counts as dead; servers speak every minute.",
        ),
    ] = 180
    deleted_pods_max: Annotated[
        int, Meta(ge=1, le=65536, description="Deleted pods to remember while their logs drain.")
    ] = 1024

    @property
    def wanted(self) -> bool | None:
        """
        Whether to ask the API server; None: where there is one.
        """
        return {"auto": None, "true": True, "false": False}.get(str(self.enabled).lower())


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """
    One API server and who we are to it.
    """

    url: str
    ca_file: str = ""
    ca_data: bytes = b""
    token: str = ""
    token_file: str = ""
    certificate_file: str = ""
    certificate_data: bytes = b""
    key_file: str = ""
    key_data: bytes = b""
    #: Name in the server's certificate, where it is not that of the URL.
    server_name: str = ""

    def read_token(self) -> str:
        """
        Return the token as it is now; empty without one.  Raises RetryError.
        """
        if not self.token_file:
            return self.token
        return _read(self.token_file).decode(errors="replace").strip()

    def tls(self) -> ssl.SSLContext:
        """
        Return a context that verifies the server and shows our certificate.  Raises RetryError.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authorities = self.ca_data or (_read(self.ca_file) if self.ca_file else b"")
        try:
            if authorities:
                # Only the cluster's own authority counts, not those of the system.
                context.load_verify_locations(cadata=authorities.decode())
            else:
                context.load_default_certs()
            certificate = self.certificate_data or (
                _read(self.certificate_file) if self.certificate_file else b""
            )
            if certificate:
                key = self.key_data or (_read(self.key_file) if self.key_file else b"")
                _load_certificate(context, certificate + b"\n" + key)
        except (ssl.SSLError, ValueError, OSError) as error:
            raise RetryError(
                f"certificates for {self.url}: {error}; check the PEM files",
                code="certificate",
                slow=True,
            ) from error
        return context


def find_access(settings: KubernetesSettings, environ: Mapping[str, str]) -> Access | None:
    """
    Return how to reach the API server; None where there is none and none is asked for.

    Raises StopError where the configuration asks for what is not there.
    """
    if settings.wanted is False:
        return None
    if settings.kubeconfig:
        return read_kubeconfig(settings.kubeconfig)
    address = environ.get("KUBERNETES_SERVICE_HOST", "")
    if not address:
        if settings.wanted:
            raise StopError(
                "kubernetes.enabled is true, but KUBERNETES_SERVICE_HOST is not set: "
                "run in a pod, or set kubernetes.kubeconfig",
                exit_code=78,
            )
        return None
    port = environ.get("KUBERNETES_SERVICE_PORT", "") or "443"
    return Access(
        url=f"https://[{address}]:{port}" if ":" in address else f"https://{address}:{port}",
        ca_file=f"{SERVICE_ACCOUNT}/ca.crt",
        token_file=f"{SERVICE_ACCOUNT}/token",
    )


def read_kubeconfig(path: str) -> Access:
    """
    Return the current context of a kubeconfig.

    Raises StopError for what is not there, or not supported.
    """
    import yaml

    try:
        tree = yaml.safe_load(_read(path))
    except (RetryError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise StopError(f"kubeconfig {path}: {error}", exit_code=78) from error
    file = _Kubeconfig(path, tree)
    context = file.named("contexts", "context", file.text(file.root, "current-context"))
    cluster = file.named("clusters", "cluster", file.text(context, "cluster"))
    user = file.named("users", "user", file.text(context, "user")) if "user" in context else {}
    for part, keys in (
        (cluster, ("insecure-skip-tls-verify", "proxy-url")),
        (user, ("exec", "auth-provider", "username", "password")),
    ):
        for key in keys:
            if part.get(key):
                raise file.error(
                    f"`{key}` is not supported; use a token, or a client certificate, and the cluster's authority"
                )
    url = file.text(cluster, "server").rstrip("/")
    if not url.startswith("https://"):
        raise file.error(f"server {shown(url)}: expected https://…")
    return Access(
        url=url,
        ca_file=file.path(cluster, "certificate-authority"),
        ca_data=file.data(cluster, "certificate-authority-data"),
        server_name=file.text(cluster, "tls-server-name", ""),
        token=file.text(user, "token", ""),
        token_file=file.path(user, "tokenFile"),
        certificate_file=file.path(user, "client-certificate"),
        certificate_data=file.data(user, "client-certificate-data"),
        key_file=file.path(user, "client-key"),
        key_data=file.data(user, "client-key-data"),
    )


class _Kubeconfig:
    def __init__(self, path: str, root: Any) -> None:
        self._path = path
        if not isinstance(root, dict):
            raise self.error("expected a mapping")
        self.root: dict[str, Any] = root

    def error(self, text: str) -> StopError:
        return StopError(f"kubeconfig {self._path}: {text}", exit_code=78)

    def named(self, many: str, one: str, name: str) -> dict[str, Any]:
        for item in self.root.get(many) or ():
            if isinstance(item, dict) and item.get("name") == name:
                found = item.get(one)
                return found if isinstance(found, dict) else {}
        raise self.error(f"no {one} {shown(name)} among its {many}")

    def text(self, part: Mapping[str, Any], key: str, default: str | None = None) -> str:
        value = part.get(key, default)
        if not isinstance(value, str):
            raise self.error(f"`{key}` is missing, or no text")
        return value

    def path(self, part: Mapping[str, Any], key: str) -> str:
        # Relative paths are relative to the kubeconfig.
        value = self.text(part, key, "")
        return os.path.join(os.path.dirname(self._path), value) if value else ""

    def data(self, part: Mapping[str, Any], key: str) -> bytes:
        text = self.text(part, key, "")
        try:
            return base64.b64decode(text, validate=True)
        except ValueError as error:  # of text beyond ASCII, and binascii's own
            raise self.error(f"`{key}` is not base64") from error


def _load_certificate(context: ssl.SSLContext, pem: bytes) -> None:
    # OpenSSL reads only files; this one never touches a disk.
    descriptor = os.memfd_create("tailrace-certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(FILE_BYTES_MAX)
    except OSError as error:
        raise RetryError(f"{path}: {error.strerror or error}", code="file", slow=True) from error
