"""
Templates and legal names.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.batch import Resource
from agent.core.templates import Template, TemplateError, legal_group, legal_key, legal_stream

POD = Resource(
    path="/var/log/pods/shop_web-0_u1/app/0.log",
    cluster="c1",
    node="n1",
    namespace="shop",
    pod="web-0",
    pod_uid="u1",
    container="app",
    restart="3",
)
FILE = Resource(path="/var/log/nginx/access.log", cluster="c1", node="n1")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("plain", "plain"),
        ("/aws/{cluster}/{namespace}", "/aws/c1/shop"),
        ("{node}-{pod}_{namespace}_{container}.{restart}", "n1-web-0_shop_app.3"),
        ("{pod_uid}{path}", "u1/var/log/pods/shop_web-0_u1/app/0.log"),
        ("{{{pod}}}", "{web-0}"),
    ],
)
def test_variables_are_replaced(text, name):
    assert Template(text).render(POD) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "{node}-containers.{pod}_{namespace}_{container}",
            "n1-containers.var.log.nginx.access.log",
        ),
        ("{cluster}/{namespace}/logs", "c1/var.log.nginx.access.log/logs"),
        ("{node}{path}-{pod}", "n1/var/log/nginx/access.log-unknown"),
        ("{cluster}", "c1"),
    ],
)
def test_a_file_of_no_container_is_named_by_its_path(text, name):
    assert Template(text).render(FILE) == name


def test_what_is_not_known_says_so():
    assert (
        Template("/{cluster}/{container}").render(Resource(path="/a", pod="p"))
        == "/unknown/unknown"
    )


@pytest.mark.parametrize(
    ("text", "hints"),
    [
        ("{namspace}", ["{namspace}", "did you mean {namespace}?"]),
        ("{containr_name}", ["{containr_name}", "did you mean {container}?"]),
        ("{zzz}", ["{zzz}", "known are {cluster}, {node}"]),
        ("{}", ["{}"]),
        ("a{b", ["lone '{'", "character 2"]),
        ("a}b", ["lone '}'", "write '}}'"]),
    ],
)
def test_a_bad_template_says_what_is_wrong_and_what_is_near(text, hints):
    with pytest.raises(TemplateError) as caught:
        Template(text)
    for hint in hints:
        assert hint in str(caught.value)


GROUP = re.compile(r"[\.\-_/#A-Za-z0-9]{1,512}")
STREAM = re.compile(r"[^:*]{1,512}")
anything = st.text(max_size=2000)


@given(anything)
def test_groups_are_legal(name):
    legal = legal_group(name)
    assert GROUP.fullmatch(legal)
    assert not legal.startswith("aws/")


@given(anything)
def test_streams_are_legal_utf8(name):
    legal = legal_stream(name)
    assert STREAM.fullmatch(legal)
    assert legal.encode().decode() == legal


@given(anything)
def test_keys_are_legal(name):
    legal = legal_key(name)
    assert 1 <= len(legal.encode()) <= 1024
    assert not legal.startswith("/")
    assert all(part not in ("", ".", "..") for part in legal.split("/"))


@pytest.mark.parametrize("legal", [legal_group, legal_stream, legal_key])
def test_names_that_are_legal_stay_as_they_are(legal):
    name = "aws-logs/containerinsights_c1/application.log"
    assert legal(name) == name
    assert legal("") == "tailrace"


@pytest.mark.parametrize("legal", [legal_group, legal_stream, legal_key])
def test_names_that_differ_only_behind_the_cut_stay_apart(legal):
    names = {legal("x" * 1100 + end) for end in ("a", "b", "c")}
    assert len(names) == 3


def test_names_that_differ_only_in_illegal_characters_stay_apart():
    assert len({legal_stream("a:b"), legal_stream("a*b"), legal_stream("a_b")}) == 3
    assert len({legal_group("a b"), legal_group("a@b"), legal_group("a_b")}) == 3


def test_the_reserved_prefix_gets_a_slash():
    assert legal_group("aws/eks/c1") == "/aws/eks/c1"
    assert legal_group("/aws/eks/c1") == "/aws/eks/c1"
