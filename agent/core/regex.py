r"""
Regular expressions: text to a program for `_fastregex`, whose time is linear in the length of what it reads.

    alternation   a|b
    repetition    * + ? {2} {2,} {2,5}, each also lazy with ? behind it
    groups        (…)  (?:…)  (?P<name>…)  (?i) (?s) (?m) at the beginning
    characters    .  [a-z]  [^a-z]  \d \w \s \D \W \S  \n \r \t \f \v \xHH  \. and other signs
    places        ^ $ \A \z \Z \b \B

As in RE2 there is nothing that would need to go back: no \1, no look-around.  Classes, \b and (?i) know ASCII; `.` and
negated classes match a character of UTF-8.  `$` is the very end, with (?m) also the end of a line.
"""

from __future__ import annotations

from agent._fastregex import (
    OP_ASSERT,
    OP_BYTE,
    OP_JUMP,
    OP_MATCH,
    OP_SAVE,
    OP_SPLIT,
    Regex,
)
from agent.core.regex_parse import Node, Parser, RegexError, bits_of

__all__ = ["RegexError", "compile_pattern"]

PATTERN_CHARACTERS_MAX = 4_096
#: RE2 takes 8 MiB for a program; this is about 1 MiB with its states.
INSTRUCTIONS_MAX = 8_000
_TAILS = (bits_of((0xC2, 0xDF)), bits_of((0xE0, 0xEF)), bits_of((0xF0, 0xF4)))
_CONTINUATION = bits_of((0x80, 0xBF))


def compile_pattern(pattern: str) -> Regex:
    """
    Return the program of *pattern*; raises RegexError.
    """
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise RegexError(f"is longer than {PATTERN_CHARACTERS_MAX} characters", "", 0)
    parser = Parser(pattern)
    tree = parser.whole()
    program = _Program(pattern)
    program.add(OP_SAVE, 0)
    program.emit(tree)
    program.add(OP_SAVE, 1)
    program.add(OP_MATCH)
    return Regex(
        tuple(program.instructions),
        tuple(bits.to_bytes(32, "little") for bits in program.sets),
        tuple(parser.names),
        b"" if parser.fold else _literal(tree),
    )


class _Program:
    """
    Instructions (op, x, y), and the sets of bytes that they name.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.instructions: list[tuple[int, int, int]] = []
        self.sets: list[int] = []

    def add(self, op: int, x: int = 0, y: int = 0) -> int:
        if len(self.instructions) >= INSTRUCTIONS_MAX:
            raise RegexError("becomes too large: repeat less", self._pattern, 0)
        self.instructions.append((op, x, y))
        return len(self.instructions) - 1

    def _byte(self, bits: int) -> None:
        if bits not in self.sets:
            self.sets.append(bits)
        self.add(OP_BYTE, self.sets.index(bits))

    def emit(self, node: Node) -> None:
        """
        Add the instructions of *node*.
        """
        if node.kind == "bytes":
            self._byte(node.bits)
        elif node.kind == "any":
            self._any(node.bits)
        elif node.kind == "cat":
            for part in node.parts:
                self.emit(part)
        elif node.kind == "alt":
            self._alternatives(node.parts)
        elif node.kind == "place":
            self.add(OP_ASSERT, node.bits)
        elif node.kind == "group":
            self.add(OP_SAVE, node.low * 2)
            self.emit(node.parts[0])
            self.add(OP_SAVE, node.low * 2 + 1)
        elif node.kind == "repeat":
            self._repeat(node)

    def _split(self, at: int, first: int, second: int, *, lazy: bool = False) -> None:
        self.instructions[at] = (OP_SPLIT, *((second, first) if lazy else (first, second)))

    @property
    def _here(self) -> int:
        return len(self.instructions)

    def _alternatives(self, parts: tuple[Node, ...]) -> None:
        jumps = []
        for part in parts[:-1]:
            split = self.add(OP_SPLIT)
            self.emit(part)
            jumps.append(self.add(OP_JUMP))
            self._split(split, split + 1, self._here)
        self.emit(parts[-1])
        for jump in jumps:
            self.instructions[jump] = (OP_JUMP, self._here, 0)

    def _any(self, bits: int) -> None:
        # An ASCII byte, or a lead byte with as many behind it as it asks for.
        jumps = []
        for count, lead in enumerate((bits, *_TAILS)):
            split = self.add(OP_SPLIT) if count < 3 else -1
            self._byte(lead)
            for _ in range(count):
                self._byte(_CONTINUATION)
            if split >= 0:
                jumps.append(self.add(OP_JUMP))
                self._split(split, split + 1, self._here)
        for jump in jumps:
            self.instructions[jump] = (OP_JUMP, self._here, 0)

    def _repeat(self, node: Node) -> None:
        body, lazy = node.parts[0], node.lazy
        for _ in range(node.low):
            self.emit(body)
        if node.high < 0:
            split = self.add(OP_SPLIT)
            self.emit(body)
            self.add(OP_JUMP, split)
            self._split(split, split + 1, self._here, lazy=lazy)
            return
        splits = []
        for _ in range(node.high - node.low):
            splits.append(self.add(OP_SPLIT))
            self.emit(body)
        for split in splits:
            self._split(split, split + 1, self._here, lazy=lazy)


def _literal(tree: Node) -> bytes:
    """
    Return the longest text that everything that matches *tree* has in it; empty where there is none.
    """
    best, run = b"", b""
    for node in _flat(tree):
        if node.kind == "bytes" and node.bits.bit_count() == 1:
            run += bytes([node.bits.bit_length() - 1])
            best = max(best, run, key=len)
        elif node.kind != "place":
            run = b""
    return best


def _flat(node: Node) -> list[Node]:
    if node.kind == "cat":
        return [leaf for part in node.parts for leaf in _flat(part)]
    if node.kind == "group":
        return _flat(node.parts[0])
    if node.kind == "repeat" and node.low >= 1:
        return [*_flat(node.parts[0]), Node("gap")]
    return [node]
