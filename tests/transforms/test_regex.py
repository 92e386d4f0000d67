"""
Regular expressions: what they match, against Python's `re`; and that no text makes them slow.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent._fastfields import Mask
from agent._fastregex import narrow_matches
from agent.core import regex
from agent.core.regex import RegexError
from tests.transforms.kit import columns_of

TEXTS = st.text("aabbcd1 _-.\nAéx", max_size=14)
ATOMS = st.sampled_from(
    [
        *(
            "a",
            "b",
            "c",
            "d",
            "é",
            r"\.",
            "[a-c]",
            "[^a]",
            "[^a-c\\n]",
            ".",
            r"\d",
            r"\w",
            r"\W",
            r"\s",
            r"\D",
        ),
        *("ab", "[éx]", "-", "[1_-]", "[]a]", r"\x61"),
    ]
)
PLACES = st.sampled_from(["^", "$", r"\b", r"\B", r"\A", r"\Z"])
REPEATS = st.sampled_from(["", "*", "+", "?", "*?", "+?", "??", "{2}", "{1,3}", "{0,2}?", "{2,}"])
PATTERNS = st.recursive(
    st.builds("{}{}".format, ATOMS, REPEATS) | PLACES,
    lambda inner: st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds("(?:{}|{})".format, inner, inner),
        st.builds("({})".format, inner),
        st.builds("(?:x{}){}".format, inner, REPEATS),
    ),
    max_leaves=8,
)


def expected(pattern: str, text: str) -> tuple[int, ...] | None:
    """
    What Python finds, in bytes.  Its `$` is also before a last newline, ours is the end.
    """
    flags = re.ASCII
    found = re.compile(re.sub(r"(?<!\\)\$", r"\\Z", pattern), flags).search(text)
    if found is None:
        return None
    places = [place for group in range(found.re.groups + 1) for place in found.span(group)]
    return tuple(-1 if place < 0 else len(text[:place].encode()) for place in places)


@given(PATTERNS, st.lists(TEXTS, max_size=4))
def test_against_re(pattern: str, texts: list[str]) -> None:
    """
    The same matches and groups as Python, which goes back where we go on.
    """
    assume(pattern.count("(") - pattern.count("(?") <= 32)
    compiled = regex.compile_pattern(pattern)
    for text in texts:
        if not text and "\\B" in pattern:
            continue  # Before 3.14 Python finds no \B in an empty text.
        found = expected(pattern, text)
        raw = text.encode()
        assert compiled.find(raw) == found
        assert compiled.search(raw) == (found is not None)
        if found is not None and compiled.literal:
            assert compiled.literal in raw


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("(?i)ERROR", b"an eRRor", (3, 8)),
        ("(?i)[a-c]+", b"xABCa", (1, 5)),
        ("(?m)^b$", b"a\nb\nc", (2, 3)),
        ("(?s)a.b", b"a\nb", (0, 3)),
        ("a.b", b"a\nb", None),
        ("(?P<user>[a-z]+)@(?P<host>[a-z.]+)", b"x joe@a.b", (2, 9, 2, 5, 6, 9)),
        (".", b"\xff\xfe", None),
        ("a{,2}", b"a{,2}", (0, 5)),
        ("", b"abc", (0, 0)),
        # There is no place within a character.
        (r"\B", "1é".encode(), (3, 3)),
        (r"\B.", "1éé".encode(), (3, 5)),
    ],
)
def test_examples(pattern: str, text: bytes, found: tuple[int, ...] | None) -> None:
    assert regex.compile_pattern(pattern).find(text) == found


@pytest.mark.parametrize(
    ("pattern", "problem", "column"),
    [
        ("a(b", "a group without its closing parenthesis", 1),
        ("a)b", "a closing parenthesis without", 1),
        ("[a", "a class without its closing bracket", 0),
        ("*a", "nothing to repeat", 0),
        ("a**", "a repetition of a repetition", 2),
        (r"(a)\1", "means nothing behind a backslash", 3),
        ("(?=a)", "look-around is not linear", 0),
        ("a{2,1}", "from low to high", 1),
        ("a{1001}", "at most 1000", 1),
        ("[z-a]", "a range of ASCII", 3),
        ("(?P<a>x)(?P<a>y)", "expected", 8),
        ("(?:a{900}){900}", "becomes too large", 0),
        ("(?:" * 101 + ")" * 101, "more than 100 groups", 300),
        ("()" * 33, "more than 32 groups", 64),
        ("^*", "nothing to repeat: this is a place", 1),
        ("\\", "means nothing", 0),
        (r"\xZZ", "two hexadecimal digits", 0),
    ],
)
def test_problems(pattern: str, problem: str, column: int) -> None:
    """
    Who writes a pattern that is none sees the place.
    """
    with pytest.raises(RegexError) as caught:
        regex.compile_pattern(pattern)
    assert problem in str(caught.value)
    assert str(caught.value).splitlines()[-1] == " " * (4 + column) + "^"


def test_nothing_is_catastrophic() -> None:
    """
    Patterns that ruin engines that go back: the states stay within their limit, and the answer is right.
    """
    text = b"a" * 50_000 + b"!"
    for pattern in ("(a+)+$", "(a|a)*b", "(a|aa)+$", "(?:.*,){10}x", "(.*)(.*)(.*)(.*)z"):
        assert regex.compile_pattern(pattern).search(text) is False
    explosive = regex.compile_pattern("(?:a|b)*a(?:a|b){14}$")
    text = bytes(97 + (index * index // 7) % 2 for index in range(20_000))
    assert explosive.search(text) == (text[-15] == 97)
    assert 2 < explosive.states <= 1_000


def test_rows() -> None:
    """
    The predicate looks at the rows of the mask alone.
    """
    columns = columns_of([b"GET /a 200", b"GET /b 500", b"", b"POST /c 503"])
    mask = Mask(4)
    narrow_matches(columns, mask, -1, regex.compile_pattern(r" 5\d\d$"))
    assert list(bytes(mask)) == [0, 1, 0, 1]
    narrow_matches(columns, mask, -1, regex.compile_pattern("^GET"))
    assert list(bytes(mask)) == [0, 1, 0, 0]
    with pytest.raises(ValueError, match="was not extracted"):
        narrow_matches(columns, mask, 0, regex.compile_pattern("x"))
