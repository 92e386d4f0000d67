"""
How the API server is found: in a pod, by a kubeconfig, or with words about why not.
"""

from __future__ import annotations

import base64
import os

import pytest
import yaml

from agent.config.convert import Converter
from agent.config.text import read_tree
from agent.core.errors import RetryError, StopError
from agent.runtime.kubernetes_config import (
    Access,
    KubernetesSettings,
    find_access,
    read_kubeconfig,
)
from tests.fakes.kube_api import FakeKubeApi
from tests.fakes.kube_certificates import Authority
from tests.runtime.kube_kit import World, until

pytestmark = pytest.mark.tls
IN_CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.100.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def write(tmp_path, *, cluster=None, user=None, **root) -> str:
    tree = {
        "current-context": "main",
        "contexts": [
            {"name": "other", "context": {"cluster": "x", "user": "x"}},
            {"name": "main", "context": {"cluster": "c", "user": "u"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": "https://h:6443/", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        **root,
    }
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(tree))
    return str(path)


@pytest.mark.parametrize(
    ("enabled", "environ", "url"),
    [
        ("auto", IN_CLUSTER, "https://10.100.0.1:443"),
        (True, IN_CLUSTER, "https://10.100.0.1:443"),
        ("true", {**IN_CLUSTER, "KUBERNETES_SERVICE_HOST": "fd00::1"}, "https://[fd00::1]:443"),
        ("auto", {}, None),
        (False, IN_CLUSTER, None),
        ("false", IN_CLUSTER, None),
    ],
)
def test_in_a_pod_the_environment_says_where(enabled, environ, url):
    access = find_access(KubernetesSettings(enabled=enabled), environ)
    assert (access.url if access else None) == url
    if access:
        assert access.token_file == "/var/run/secrets/kubernetes.io/serviceaccount/token"
        assert access.ca_file == "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"


def test_what_is_asked_for_and_not_there_stops():
    with pytest.raises(StopError, match="KUBERNETES_SERVICE_HOST is not set") as caught:
        find_access(KubernetesSettings(enabled=True), {})
    assert caught.value.exit_code == 78


def test_a_kubeconfig_goes_before_the_environment(tmp_path):
    path = write(tmp_path, user={"token": "t"})
    access = find_access(KubernetesSettings(kubeconfig=path), IN_CLUSTER)
    assert access is not None
    assert (access.url, access.read_token()) == ("https://h:6443", "t")
    assert find_access(KubernetesSettings(kubeconfig=path, enabled=False), IN_CLUSTER) is None


def test_paths_in_a_kubeconfig_are_relative_to_it(tmp_path):
    (tmp_path / "token").write_text(" secret\n")
    user = {"tokenFile": "token", "client-certificate": "/abs/c.pem", "client-key": "k.pem"}
    access = read_kubeconfig(write(tmp_path, user=user))
    assert access.read_token() == "secret"
    assert access.certificate_file == "/abs/c.pem"
    assert access.key_file == str(tmp_path / "k.pem")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cluster": {"insecure-skip-tls-verify": True}}, "`insecure-skip-tls-verify` is not supp"),
        ({"cluster": {"proxy-url": "http://p"}}, "`proxy-url` is not supported"),
        ({"cluster": {"server": "http://h"}}, "expected https://"),
        ({"cluster": {"server": None}}, "`server` is missing"),
        ({"cluster": {"certificate-authority-data": "%"}}, "is not base64"),
        ({"user": {"exec": {"command": "aws"}}}, "`exec` is not supported"),
        ({"user": {"username": "a", "password": "b"}}, "`username` is not supported"),
        ({"current-context": "nowhere"}, "no context 'nowhere' among its contexts"),
        ({"clusters": None}, "no cluster 'c' among its clusters"),
        ({"users": [{"name": "v"}]}, "no user 'u' among its users"),
    ],
)
def test_what_is_not_supported_is_refused_with_words(tmp_path, change, message):
    with pytest.raises(StopError, match=r"kubeconfig .*config: ") as caught:
        read_kubeconfig(write(tmp_path, **change))
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n", "a: [", "\x00"])
def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path, text):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(StopError):
        read_kubeconfig(str(path))
    with pytest.raises(StopError, match="No such file"):
        read_kubeconfig(str(tmp_path / "absent"))


def test_certificates_that_cannot_be_read_are_tried_again_later(tmp_path):
    for access in (
        Access(url="https://h", ca_file=str(tmp_path / "absent")),
        Access(url="https://h", ca_data=b"not PEM"),
        Access(url="https://h", certificate_data=b"not PEM", key_data=b"x"),
    ):
        with pytest.raises(RetryError) as caught:
            access.tls()
        assert caught.value.slow


def test_a_client_certificate_leaves_no_descriptor_and_no_file(tmp_path):
    pair = Authority(tmp_path).issue("person")
    access = Access(
        url="https://h",
        certificate_data=pair.certificate.read_bytes(),
        key_data=pair.key.read_bytes(),
    )
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        access.tls()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("kind", ["token", "certificate"])
async def test_a_kubeconfig_with_everything_in_it_connects(tmp_path, kind):
    async with FakeKubeApi(tmp_path) as api:

        def data(path) -> str:
            return base64.b64encode(path.read_bytes()).decode()

        user = {"token": "token-1"}
        if kind == "certificate":
            pair = api.authority.issue("person")
            user = {
                "client-certificate-data": data(pair.certificate),
                "client-key-data": data(pair.key),
            }
        cluster = {
            "server": api.url,
            "certificate-authority-data": data(api.authority.path),
            "tls-server-name": "localhost",
        }
        access = read_kubeconfig(write(tmp_path, cluster=cluster, user=user))
        async with World(api, tmp_path).running(access, namespace_labels=()) as kubernetes:
            await until(lambda: kubernetes.synced)


@pytest.mark.parametrize("value", ["auto", "true", "false"])
def test_the_switch_reads_as_people_write_it(value):
    converter = Converter()
    made = converter.settings(
        KubernetesSettings, read_tree(f"enabled: {value}\n", {})[0], "kubernetes"
    )
    assert not converter.problems
    assert made.wanted is {"auto": None, "true": True, "false": False}[value]
    converter.settings(KubernetesSettings, read_tree("enabled: perhaps\n", {})[0], "kubernetes")
    assert "auto, true or false" in str(converter.problems[0])
    assert made.labels == ("*",)
