"""
What is a secret or personal data, in plain Python: the specification of `_fastredact`.

A text is read once, from its beginning.  At each byte, one of these may begin, or have it inside (`@`, `:`); what was
found is passed over, and nothing reaches back before it.  Within a number nothing else begins.

| kind | what |
|---|---|
| email | letters, digits and `._%+-`, `@`, a domain that ends with a dot and at least two letters |
| ipv4 | four numbers up to 255; no digit, letter or dot before it, no letter, and no dot with a digit, behind it |
| ipv6 | eight groups of up to four hexadecimal digits, or fewer with one `::` and a digit |
| credit_card | 13 to 19 digits from 2 to 6 on, single spaces or dashes between them, with Luhn's check digit |
| aws_access_key | `AKIA` or `ASIA` and 16 capitals and digits |
| aws_secret_key | 40 characters of base64 behind `secret access key`, in any case, `_`, a space or nothing between |
| jwt | two parts that begin with `eyJ`, and a third |
| bearer | at least 8 characters behind `bearer ` |
| private_key | from `-----BEGIN … PRIVATE KEY-----` to the end of END, or of the text |
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = (
    *("email", "ipv4", "ipv6", "credit_card", "aws_access_key", "aws_secret_key"),
    *("jwt", "bearer", "private_key"),
)
Span = tuple[int, int]

_WORD = re.compile(rb"[A-Za-z0-9_]")
_LOCAL = re.compile(rb"[A-Za-z0-9._%+-]")
_HEX = re.compile(rb"[0-9A-Fa-f]")
_DOMAIN = re.compile(rb"@([A-Za-z0-9.-]*)")
_IPV4 = re.compile(rb"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![A-Za-z0-9_])(?!\.[0-9])")
_CARD = re.compile(rb"[2-6](?:[ -]?[0-9])*(?![A-Za-z0-9_])")
_ACCESS = re.compile(rb"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9_])")
_SECRET = re.compile(
    rb"(?i:secret[_ ]?access[_ ]?key)[ \"':=\\]{0,8}([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])"
)
_JWT = re.compile(rb"eyJ[A-Za-z0-9_-]*\.eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
_BEARER = re.compile(rb"(?i:bearer) ([A-Za-z0-9._~+/-]{8,}=*)")
_PRIVATE = re.compile(rb"-----BEGIN [A-Z ]*?PRIVATE KEY-----")
_END = b"PRIVATE KEY-----"


def _is(pattern: re.Pattern[bytes], text: bytes, position: int) -> bool:
    return 0 <= position < len(text) and pattern.match(text, position) is not None


def _email(text: bytes, at: int, last: int) -> Span | None:
    start = at
    while start > last and _is(_LOCAL, text, start - 1):
        start -= 1
    match = _DOMAIN.match(text, at)
    assert match is not None
    domain = match[1].rstrip(b".-")
    ending = re.search(rb"(?<=[A-Za-z0-9.-])\.[A-Za-z]{2,}\Z", domain)
    return (start, at + 1 + len(domain)) if start < at and ending else None


def _ipv4(text: bytes, start: int) -> Span | None:
    match = _IPV4.match(text, start)
    if match is None or any(int(part) > 255 for part in match[0].split(b".")):
        return None
    return match.span()


def _card(text: bytes, start: int) -> Span | None:
    match = _CARD.match(text, start)
    # The longest run counts, not a part of it that would do.
    run = re.match(rb"[0-9](?:[ -]?[0-9])*", text[start:])
    if match is None or run is None or len(match[0]) != len(run[0]):
        return None
    digits = [byte - 0x30 for byte in match[0] if 0x30 <= byte <= 0x39]
    if not 13 <= len(digits) <= 19:
        return None
    total = 0
    for index, digit in enumerate(reversed(digits)):
        doubled = digit * 2 if index % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return None if total % 10 else match.span()


def _ipv6(text: bytes, colon: int, last: int) -> Span | None:
    start = colon
    while start > last and colon - start < 5 and _is(_HEX, text, start - 1):
        start -= 1
    if start > last and (_is(_WORD, text, start - 1) or text[start - 1 : start] == b":"):
        return None
    match = re.compile(rb"(?:[0-9A-Fa-f]+|(?=::))(?:::?[0-9A-Fa-f]+|::)*").match(text, start)
    if match is None:
        return None  # A colon that belongs to what is before.
    stop = match.end()
    address = text[start:stop]
    if _is(_WORD, text, stop):
        return None
    groups = [group for group in address.split(b":") if group]
    gap = address.count(b"::")
    if gap > 1 or b":::" in address or any(len(group) > 4 for group in groups):
        return None
    short = gap == 1 and len(groups) < 8 and re.search(rb"[0-9]", address) is not None
    return (start, stop) if short or (len(groups) == 8 and not gap) else None


def _group(pattern: re.Pattern[bytes]) -> Callable[[bytes, int], Span | None]:
    def find(text: bytes, start: int) -> Span | None:
        match = pattern.match(text, start)
        return None if match is None else match.span(pattern.groups)

    return find


def _private(text: bytes, start: int) -> Span | None:
    match = _PRIVATE.match(text, start)
    if match is None:
        return None
    end = text.find(_END, match.end() - 5)
    return (start, end + len(_END) if end >= 0 else len(text))


_ACCESS_KEY, _SECRET_KEY, _TOKEN, _BEARERS = map(_group, (_ACCESS, _SECRET, _JWT, _BEARER))


def hit_at(
    kinds: frozenset[str], text: bytes, position: int, last: int
) -> tuple[int, int, str] | None:
    """
    Return the beginning, the end and the kind of what the byte at *position* stands for, or None.
    """
    byte = text[position : position + 1]
    after_word = position > last and _is(_WORD, text, position - 1)
    number = (
        byte.isdigit()
        and not after_word
        and not (position > last and text[position - 1 : position] == b".")
    )
    found: list[tuple[str, bool, Callable[[], Span | None]]] = [
        ("email", byte == b"@", lambda: _email(text, position, last)),
        ("ipv6", byte == b":", lambda: _ipv6(text, position, last)),
        ("private_key", byte == b"-", lambda: _private(text, position)),
        ("aws_secret_key", byte in b"sS", lambda: _SECRET_KEY(text, position)),
        ("ipv4", number, lambda: _ipv4(text, position)),
        ("credit_card", number, lambda: _card(text, position)),
        ("aws_access_key", byte == b"A" and not after_word, lambda: _ACCESS_KEY(text, position)),
        ("jwt", byte == b"e" and not after_word, lambda: _TOKEN(text, position)),
        ("bearer", byte in b"bB" and not after_word, lambda: _BEARERS(text, position)),
    ]
    for kind, can_be, find in found:
        if kind in kinds and can_be:
            span = find()
            if span is not None:
                return (*span, kind)
    return None


def redact(kinds: frozenset[str], text: bytes, replacement: Callable[[str], bytes]) -> bytes:
    """
    Return *text* with everything of *kinds* replaced.
    """
    out, position, last = b"", 0, 0
    while position < len(text):
        hit = hit_at(kinds, text, position, last)
        if hit is not None:
            out += text[last : hit[0]] + replacement(hit[2])
            position = last = hit[1]
        elif text[position : position + 1].isdigit():
            match = re.compile(rb"[0-9]+").match(text, position)
            assert match is not None
            position = match.end()
        else:
            position += 1
    return out + text[last:]
