"""
The language of `where`: text to a tree of column operations, parsed once at start.

    level >= warn and not (message contains "healthz" or fields.http.status in [200, 204])

    expression  = and-expression { "or" and-expression }
    and-expr.   = not-expression { "and" not-expression }
    not-expr.   = "not" not-expression | "(" expression ")" | "true" | "false" | test
    test        = "exists" operand
                | operand ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) value
                | operand [ "not" ] "in" "[" value { "," value } "]"
                | operand [ "not" ] ( "contains" | "starts_with" | "matches" ) text
    operand     = "level" | "stream" | "message" | "namespace" | … | "fields" key | "labels" key | …
    key         = "." name { "." name } | "[" text "]"
    value       = number | text in quotes | true | false | a level's or a stream's bare word

A test of a value that is absent or null is false, whatever it asks; `!=` and `not in` are the negation of
`==` and `in`.  So every row satisfies an expression or its negation, never both.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from agent.transforms import predicates

if TYPE_CHECKING:
    from agent.transforms.predicates import Predicate

#: Parentheses and `not` in one another; a person writes three.
DEPTH_MAX = 50
EXPRESSION_CHARACTERS_MAX = 8_192
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<word>@?[A-Za-z_][\w@/-]*(?:\.[\w@/-]+)*)
      | (?P<sign>==|!=|<=|>=|[<>()\[\],])
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_TEXT_TESTS = ("contains", "starts_with", "matches")
_KEYWORDS = {"and", "or", "not", "in", "exists", *_TEXT_TESTS}


class ExpressionError(ValueError):
    """
    What is wrong with an expression, and where: the last two lines show the place.
    """

    def __init__(self, problem: str, expression: str, position: int) -> None:
        start = expression.rfind("\n", 0, position) + 1
        stop = expression.find("\n", position)
        line = expression[start : stop if stop >= 0 else len(expression)].replace("\t", " ")
        super().__init__(f"{problem}\n    {line}\n    {' ' * (position - start)}^")
        self.position = position


class Token(NamedTuple):
    """
    A word, a sign or a value; `kind` is "end" behind the last one.
    """

    kind: str
    text: str
    position: int


def parse(expression: str) -> Predicate:
    """
    Return the tree of *expression*; raises ExpressionError.
    """
    if len(expression) > EXPRESSION_CHARACTERS_MAX:
        raise ExpressionError(f"is longer than {EXPRESSION_CHARACTERS_MAX} characters", "", 0)
    return _Parser(expression).whole()


def _tokens(expression: str) -> list[Token]:
    found = []
    position = 0
    end = len(expression.rstrip())
    while position < end:
        match = _TOKEN.match(expression, position)
        if match is None or match.lastgroup is None:
            start = position + len(expression[position:]) - len(expression[position:].lstrip())
            odd = expression[start]
            problem = (
                "a text without its closing quote"
                if odd in "\"'"
                else f"{odd!r} means nothing here{' (equality is ==)' if odd == '=' else ''}"
            )
            raise ExpressionError(problem, expression, start)
        kind = match.lastgroup
        found.append(Token(kind, match[kind], match.start(kind)))
        position = match.end()
    found.append(Token("end", "", end))
    return found


class _Parser:
    """
    Recursive descent over the tokens.
    """

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._tokens = _tokens(expression)
        self._index = 0
        self._depth = 0

    def whole(self) -> Predicate:
        made = self._or()
        if self._peek.kind != "end":
            raise self._wrong("and, or, or the end of the expression")
        return made

    @property
    def _peek(self) -> Token:
        return self._tokens[self._index]

    def _next(self) -> Token:
        token = self._tokens[self._index]
        if token.kind != "end":
            self._index += 1
        return token

    def _taken(self, *texts: str) -> str:
        """
        Go past the next token if it is one of *texts*, and return it.
        """
        token = self._peek
        if token.kind in {"word", "sign"} and token.text in texts:
            self._index += 1
            return token.text
        return ""

    def _wrong(self, expected: str, at: Token | None = None) -> ExpressionError:
        token = at or self._peek
        got = "the end" if token.kind == "end" else token.text
        return ExpressionError(f"got {got}, expected {expected}", self._expression, token.position)

    def _or(self) -> Predicate:
        parts = [self._and()]
        while self._taken("or"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else predicates.Or(tuple(parts))

    def _and(self) -> Predicate:
        parts = [self._not()]
        while self._taken("and"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else predicates.And(tuple(parts))

    def _not(self) -> Predicate:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._wrong(f"at most {DEPTH_MAX} parentheses and nots in one another")
        if self._taken("not"):
            made: Predicate = predicates.Not(self._not())
        elif self._taken("("):
            made = self._or()
            if not self._taken(")"):
                raise self._wrong("a closing parenthesis")
        elif self._taken("exists"):
            made = predicates.exists(self._operand())
        elif word := self._taken("true", "false"):
            made = predicates.Always(value=word == "true")
        else:
            made = self._test()
        self._depth -= 1
        return made

    def _operand(self) -> predicates.Operand:
        token = self._next()
        if token.kind != "word" or token.text in _KEYWORDS:
            raise self._wrong(f"one of {', '.join(predicates.OPERANDS)}", token)
        root, _, key = token.text.partition(".")
        if root in predicates.KEYED and not key and self._taken("["):
            quoted = self._next()
            if quoted.kind != "text" or not _unquoted(quoted.text):
                raise self._wrong('a key in quotes, e.g. labels["app"]', quoted)
            key = _unquoted(quoted.text)
            if not self._taken("]"):
                raise self._wrong("]")
        if root not in predicates.OPERANDS or bool(key) != (root in predicates.KEYED):
            expected = f"one of {', '.join(predicates.OPERANDS)}"
            if root in predicates.KEYED:
                expected = f'{root}.KEY or {root}["KEY"]'
            elif root not in predicates.OPERANDS:
                expected += f"; a field of the message is fields.{token.text}"
            raise self._wrong(expected, token)
        return predicates.Operand(root, key)

    def _test(self) -> Predicate:
        at = self._peek
        operand = self._operand()
        if sign := self._taken(*_COMPARISONS):
            made = self._compare(operand, sign, self._value(operand))
            return predicates.Not(made) if sign == "!=" else made
        negated = bool(self._taken("not"))
        if self._taken("in"):
            made = self._in(operand)
        elif word := self._taken(*_TEXT_TESTS):
            made = self._text_test(operand, word, at)
        elif negated:
            raise self._wrong("in, contains, starts_with or matches")
        else:
            raise self._wrong("a comparison, in, contains, starts_with or matches")
        return predicates.Not(made) if negated else made

    def _in(self, operand: predicates.Operand) -> Predicate:
        if not self._taken("["):
            raise self._wrong('a list in brackets, e.g. ["a", "b"]')
        parts = [self._compare(operand, "==", self._value(operand))]
        while self._taken(","):
            parts.append(self._compare(operand, "==", self._value(operand)))
        if not self._taken("]"):
            raise self._wrong("a comma or a closing bracket")
        return predicates.Or(tuple(parts))

    def _compare(
        self, operand: predicates.Operand, sign: str, value: tuple[Token, predicates.Value]
    ) -> Predicate:
        token, literal = value
        try:
            return predicates.compare(operand, "==" if sign == "!=" else sign, literal)
        except ValueError as error:
            raise self._wrong(str(error), token) from None

    def _text_test(self, operand: predicates.Operand, word: str, at: Token) -> Predicate:
        token = self._next()
        if token.kind != "text":
            raise self._wrong("a text in quotes", token)
        try:
            return predicates.text_test(operand, word, _unquoted(token.text))
        except predicates.OperandError as error:
            raise self._wrong(str(error), at) from None
        except ValueError as error:
            raise ExpressionError(str(error), self._expression, token.position) from None

    def _value(self, operand: predicates.Operand) -> tuple[Token, predicates.Value]:
        token = self._next()
        if token.kind == "text":
            return token, _unquoted(token.text)
        if token.kind == "number":
            return token, float(token.text)
        if token.kind == "word" and token.text in {"true", "false"}:
            return token, token.text == "true"
        if token.kind == "word" and operand.root in {"level", "stream"}:
            return token, token.text
        hint = f' (in quotes: "{token.text}")' if token.kind == "word" else ""
        raise self._wrong(f"a number, true, false or a text in quotes{hint}", token)


def _unquoted(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), text[1:-1])
