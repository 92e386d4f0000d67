"""
What of pods and namespaces is kept: what the configuration asks for, and what its templates name.
"""

from __future__ import annotations

import pytest

from agent.config.load import parse
from agent.core.errors import StopError
from agent.runtime.metadata import refuse_blind_routes, wanted_of

ROUTES = """
kubernetes: {annotations: [note]}
routes:
  - name: a
    select: {labels: "team in (x)", annotations: [fluentbit]}
    sink: {type: cloudwatch, region: eu-west-1, group: "/g/{annotations.acme.io/group|none}", stream: "{pod}"}
  - name: b
    sink: {type: parquet, url: "s3://bucket/logs", prefix: "{namespace_labels.tenant|none}"}
"""


def test_templates_and_selections_say_what_is_kept() -> None:
    """
    An annotation that a group is named after is kept although nobody shows it.
    """
    wanted = wanted_of(parse(ROUTES, name="t", environ={}))
    assert wanted.annotations == ("note", "acme.io/group")
    assert "tenant" in wanted.namespace_labels
    assert wanted.deciding_labels == {"team"}
    assert wanted.deciding_annotations == ("fluentbit.io/exclude",)


def test_a_route_that_could_only_hold_is_refused() -> None:
    """
    Without an API server, nobody can say what a label selects.
    """
    config = parse(ROUTES, name="t", environ={})
    with pytest.raises(StopError, match="route a selects by labels") as refused:
        refuse_blind_routes(config, None)
    assert refused.value.exit_code == 78
