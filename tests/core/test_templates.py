"""
Templates and legal names.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.batch import Resource
from agent.core.templates import (
    Template,
    TemplateError,
    fields_of,
    hashed,
    legal_group,
    legal_key,
    legal_stream,
)
from tests.fakes.metadata import metadata

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
KNOWN = replace(
    POD,
    region="eu-central-1",
    zone="euc1-az1",
    instance_id="i-1",
    metadata=metadata(
        container_id="cafe",
        image="acme/web:1",
        pod_ip="10.0.0.9",
        owner_kind="Deployment",
        owner_name="web",
        labels=(("app.kubernetes.io/name", "web"), ("team", "a")),
        annotations=(
            ("acme.io/group", "../../x"),
            ("dots", ".."),
            ("slash", "a/b"),
            ("low", "a_b"),
        ),
        namespace_labels=(("team", "ns"),),
    ),
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
        ("{region}:{zone}:{instance_id}", "eu-central-1:euc1-az1:i-1"),
        ("{container_id}{pod_ip}|{owner_kind}~{owner_name}", "cafe10.0.0.9|Deployment~web"),
        ("{labels.app.kubernetes.io/name}{labels.team|x}", "weba"),
        ("{namespace_labels.team}/{labels.absent}/{annotations.absent}", "ns/unknown/unknown"),
        ("{labels.absent|none}.{annotations.absent|}.{pod|x}", "none..web-0"),
        ("{labels.absent|a/b|c}", "a/b|c"),
    ],
)
def test_metadata_is_known_by_field_and_by_key(text, name):
    assert Template(text).render(KNOWN) == name


def test_an_absent_value_is_named_once_for_each_variable_without_a_default():
    text = "{pod}{labels.absent}{labels.other|x}{annotations.absent}{cluster}"
    template = Template(text)
    assert template.fallbacks(KNOWN) == ("labels.absent", "annotations.absent")
    assert template.fallbacks(POD) == ("labels.absent", "annotations.absent")
    # Its path stands for all of them: nothing is missing.
    assert template.fallbacks(FILE) == ()
    assert Template("{region}/{pod}").fallbacks(FILE) == ("region",)


def test_a_template_says_which_keys_it_reads():
    template = Template("{labels.a}{annotations.b|x}{labels.c/d}{pod}")
    assert template.keys("labels") == {"a", "c/d"}
    assert template.keys("annotations") == {"b"}
    assert template.keys("namespace_labels") == frozenset()


def test_no_value_chooses_another_place():
    """
    What somebody writes on a pod stays one part of a name, and different values stay apart.
    """
    template = Template("tenants/{annotations.acme.io/group}/{annotations.dots}/{namespace}")
    parts = template.render(KNOWN).split("/")
    assert len(parts) == 4
    assert parts[1].startswith(".._.._x-")
    assert parts[2].startswith("__-")
    assert legal_key(template.render(KNOWN)) == template.render(KNOWN)
    assert Template("{annotations.slash}").render(KNOWN) != Template("{annotations.low}").render(
        KNOWN
    )


@given(st.lists(st.text(max_size=40), min_size=4, max_size=4))
def test_no_value_leaves_the_prefix(values):
    """
    Any label, annotation, image or pod name: the same depth below the same prefix.
    """
    known = Resource(
        path="/p",
        pod=values[0],
        container="app",
        metadata=metadata(
            image=values[1], labels=(("a", values[2]),), annotations=(("b", values[3]),)
        ),
    )
    template = Template("tenants/a-{pod}/{image}/{labels.a|x}/{annotations.b}/end")
    key = legal_key(template.render(known))
    assert key.startswith("tenants/a-")
    assert key.endswith("/end")
    assert key.count("/") == 5
    assert not {"", ".", ".."} & set(key.split("/"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{node}-{pod|host}", "n1-host"),
        ("{cluster}/{labels.team}-{image}/logs", "c1/var.log.nginx.access.log/logs"),
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
        ("/aws/{pood}", ["character 6", "did you mean {pod}?"]),
        ("{label.app}", ["character 1", "did you mean {labels.app}?"]),
        ("{labels}", ["without a key", "{labels.KEY}"]),
        ("{annotations.|x}", ["without a key", "{annotations.KEY}"]),
        ("{pod.name}", ["unknown variable {pod.name}"]),
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


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{fields.app}", "web"),
        ("{fields.http.status|none}-{fields.empty|none}", "200-none"),
        ("{fields.empty|}.{fields.gone}", ".unknown"),
        ("{fields.up}", f".._.._x-{hashed('../../x')[-8:]}"),
    ],
)
def test_fields_of_a_row(text, name):
    fields = {"app": "web", "http.status": "200", "empty": "", "up": "../../x"}
    template = Template(text)
    assert template.render(POD, fields) == name
    assert template.fallbacks(POD, fields) == (("fields.gone",) if "gone" in text else ())


def test_the_fields_that_names_are_made_of():
    assert fields_of("{fields.b}/{fields.a|x}", "{pod}", "{fields.a}") == ("a", "b")
    with pytest.raises(TemplateError, match=r"without a key; write \{fields.KEY\}"):
        Template("{fields}")
    with pytest.raises(TemplateError, match=r"did you mean \{fields.app\}"):
        Template("{field.app}")
