"""
Label selectors: Kubernetes' syntax and its meaning of absent labels.
"""

from __future__ import annotations

import pytest

from agent.core.labels import LabelSelector, LabelSelectorError

WEB = {"app": "web", "tier": "front", "example.com/role": "main", "empty": ""}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("  ", True),
        ("app=web", True),
        ("app==web", True),
        (" app = web , tier = front ", True),
        ("app=db", False),
        ("app=", False),
        ("empty=", True),
        ("app!=db", True),
        ("app!=web", False),
        ("absent!=x", True),
        ("app in (db,web)", True),
        ("app in(web)", True),
        ("app in (db)", False),
        ("absent in (x)", False),
        ("empty in (,x)", True),
        ("app notin (db)", True),
        ("app notin (db, web)", False),
        ("absent notin (x)", True),
        ("app", True),
        ("absent", False),
        ("!absent", True),
        ("! app", False),
        ("example.com/role=main", True),
        ("app=web,tier!=cache,example.com/role in (main,other),!off,env notin (dev)", True),
        ("app=web,tier!=front", False),
        # Words of the syntax are values all the same.
        ("app in (in, notin)", False),
        ("app=in", False),
    ],
)
def test_selectors_match_as_kubectl_does(text, matches):
    assert LabelSelector(text).matches(WEB) is matches


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("app=web,", 8, "found the end"),
        (",app", 0, "expected a label's key, found ','"),
        ("app=web tier=x", 8, "expected a comma or the end, found 'tier'"),
        ("app~web", 3, "'~' does not belong here"),
        ("a>1", 1, "do not select pods"),
        ("app in web", 7, "expected ( and a list of values"),
        ("app in ()", 8, "expected at least one value"),
        ("app in (a", 9, "expected a comma or )"),
        ("app in (a b)", 10, "expected a comma or )"),
        ("a=b=c", 3, "expected a comma or the end"),
        ("app=(a)", 4, "expected a label's value"),
        ("!", 1, "expected a label's key, found the end"),
        ("in=x", 0, "expected a label's key"),
        ("-app=web", 0, "cannot be a label's name"),
        ("app=web-", 4, "cannot be a label's value"),
        ("Example.com/role", 0, "is no DNS name"),
        ("/role", 0, "is no DNS name"),
        ("a.b/", 4, "cannot be a label's name"),
        ("app=" + "x" * 64, 67, "at most 63 characters, not 64"),
        ("app=a/b", 4, "cannot be a label's value"),
    ],
)
def test_errors_point_at_the_character(text, position, reason):
    with pytest.raises(LabelSelectorError) as caught:
        LabelSelector(text)
    assert reason in str(caught.value)
    assert caught.value.position == position
    assert f"at character {position + 1}: {text[:position]}⟨here⟩{text[position:]}" in str(
        caught.value
    )


def test_a_selector_says_which_labels_it_needs():
    assert LabelSelector("a=b,!c,d in (e)").keys == {"a", "c", "d"}
