"""
Inputs for fuzzers: a corpus, tokens that matter to a format, and a seed; the same number gives the same input.

Guided by nothing but its tokens, and cheap: most decoders take a few microseconds, so a million inputs are minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

INPUT_BYTES_MAX = 64 << 10
#: Bytes that decoders treat as something: ends, escapes, signs, limits of UTF-8.
BYTES = b"\x00\x01\x0a\x0d\x1f\x20\"',:;<>[]{}\\/&%$#!*?-+.0159eEtfnu\x7f\x80\xbf\xc0\xc2\xe0\xed\xf0\xf4\xf5\xff"
NUMBERS = (
    *(
        b"0",
        b"-1",
        b"1",
        b"255",
        b"256",
        b"65535",
        b"65536",
        b"2147483647",
        b"2147483648",
        b"1e999",
    ),
    *(
        b"4294967295",
        b"9223372036854775807",
        b"9223372036854775808",
        b"-9223372036854775809",
        b"NaN",
    ),
)
#: Once in a while as deep as no parser that calls itself can go.
REPEATED = (1, 2, 3, 5, 10, 30, 100)
REPEATED_MAX = 5000


def mutated(rng: random.Random, corpus: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """
    Return an input: an item of *corpus*, changed in one to eight places (one in forty is left as it is).
    """
    data = bytearray(rng.choice(corpus))
    if rng.random() < 0.025:
        return bytes(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4, 8))):
        rng.choice(CHANGES)(data, rng, corpus, tokens)
    return bytes(data[:INPUT_BYTES_MAX])


def _flip(data: bytearray, rng: random.Random, _corpus: object, _tokens: object) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _byte(data: bytearray, rng: random.Random, _corpus: object, _tokens: object) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice(BYTES)


def _insert(data: bytearray, rng: random.Random, _corpus: object, tokens: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice(tokens) if tokens and rng.random() < 0.6 else rng.choice(NUMBERS)


def _replace(data: bytearray, rng: random.Random, _corpus: object, tokens: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    new = (
        rng.choice(tokens) if tokens and rng.random() < 0.6 else rng.randbytes(rng.randrange(1, 9))
    )
    data[at : at + rng.choice((1, len(new)))] = new


def _cut(data: bytearray, rng: random.Random, _corpus: object, _tokens: object) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.choice((1, 2, 4, 16, 1 << 20))]


def _repeat(data: bytearray, rng: random.Random, _corpus: object, _tokens: object) -> None:
    at = rng.randrange(len(data) + 1)
    piece = bytes(data[at : at + rng.choice((1, 1, 2, 4, 32))])
    count = REPEATED_MAX if rng.random() < 0.003 else rng.choice(REPEATED)
    data[at:at] = piece * min(count, INPUT_BYTES_MAX // max(1, len(piece)))


def _splice(data: bytearray, rng: random.Random, corpus: Sequence[bytes], _tokens: object) -> None:
    other = rng.choice(corpus)
    start = rng.randrange(len(other) + 1)
    at = rng.randrange(len(data) + 1)
    data[at : at + rng.choice((0, 8, 1 << 20))] = other[
        start : start + rng.choice((8, 64, 1 << 20))
    ]


CHANGES: tuple[Callable[..., None], ...] = (
    _flip,
    _byte,
    _byte,
    _insert,
    _insert,
    _replace,
    _cut,
    _repeat,
    _splice,
)


def smaller(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """
    Return a shorter input that *fails* as well: pieces are left out while it still does.
    """
    size = max(1, len(data) // 2)
    tries = 0
    while size and tries < 2000:
        at = 0
        while at < len(data):
            shorter = data[:at] + data[at + size :]
            tries += 1
            if fails(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data
