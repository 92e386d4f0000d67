"""
Names made from what is known about a container: `/aws/{cluster}/{namespace}`.

A template is parsed once, and rendered once per Log.  Variables:

| variable | meaning |
|---|---|
| `{cluster}` `{node}` | where the agent runs |
| `{namespace}` `{pod}` `{container}` `{pod_uid}` `{restart}` | the container |
| `{path}` | path of the live file |

`{{` and `}}` stand for braces.  What is not known reads `unknown`.  A file that belongs to no container
has its path, slashes as dots, in the place from the first to the last variable about a container: the
tag that Fluent Bit would give it.  So two such files never share a name by accident.

`legal_group`, `legal_stream` and `legal_key` make a name legal (facts: names, tags, retention, classes).  A name
that had to be cut, or in which different characters became the same one, ends in a hash of the original, so
that two containers never share a stream because their names were too long.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.core.batch import Resource

VARIABLES = ("cluster", "node", "namespace", "pod", "container", "path", "pod_uid", "restart")
VARIABLES_CONTAINER = frozenset({"namespace", "pod", "container", "pod_uid", "restart"})
UNKNOWN = "unknown"

#: CloudWatch Logs: logGroupName and logStreamName, characters.
NAME_LENGTH_MAX = 512
#: S3: a key, bytes of UTF-8.
KEY_BYTES_MAX = 1024
HASH_LENGTH = 8

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_GROUP_ILLEGAL = re.compile(r"[^.\-_/#A-Za-z0-9]")
_STREAM_ILLEGAL = re.compile(r"[:*\x00-\x1f\x7f\ud800-\udfff]")
_KEY_ILLEGAL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class TemplateError(ValueError):
    """
    A template that cannot be parsed; the text says why and what to write instead.
    """


class Template:
    """
    A parsed template.
    """

    __slots__ = ("_parts", "_span", "text", "variables")

    def __init__(self, text: str, *, variables: tuple[str, ...] = VARIABLES) -> None:
        """
        Parse *text*.

        Raises TemplateError for a variable that is not among *variables*, and for a lone brace.
        """
        self.text = text
        #: Pairs of (is a variable, literal or name).
        self._parts: list[tuple[bool, str]] = []
        position = 0
        for match in _TOKEN.finditer(text):
            self._literal(text[position : match.start()])
            position = match.end()
            token = match.group()
            if token in ("{{", "}}"):
                self._literal(token[0])
            elif match.group(1) is None:
                raise TemplateError(
                    f"template {text!r}: lone {token!r} at character {match.start()}; "
                    f"write {token * 2!r} for the character"
                )
            else:
                self._variable(match.group(1), variables)
        self._literal(text[position:])
        self.variables = frozenset(value for is_variable, value in self._parts if is_variable)
        self._span = self._container_span()

    def render(self, resource: Resource) -> str:
        """
        Return the name for *resource*, not yet made legal.
        """
        span = (
            self._span
            if self._span is not None
            and not any(getattr(resource, name) for name in VARIABLES_CONTAINER)
            else None
        )
        rendered: list[str] = []
        for index, (is_variable, value) in enumerate(self._parts):
            if span is not None and span[0] <= index <= span[1]:
                if index == span[0]:
                    rendered.append(resource.path.strip("/").replace("/", ".") or UNKNOWN)
            elif is_variable:
                rendered.append(getattr(resource, value) or UNKNOWN)
            else:
                rendered.append(value)
        return "".join(rendered)

    def _literal(self, text: str) -> None:
        if text:
            self._parts.append((False, text))

    def _variable(self, name: str, variables: tuple[str, ...]) -> None:
        if name not in variables:
            known = ", ".join("{" + variable + "}" for variable in variables)
            nearest = difflib.get_close_matches(name, variables, n=1, cutoff=0.5)
            hint = f"did you mean {{{nearest[0]}}}? " if nearest else ""
            raise TemplateError(
                f"template {self.text!r}: unknown variable {{{name}}}; {hint}known are {known}"
            )
        self._parts.append((True, name))

    def _container_span(self) -> tuple[int, int] | None:
        # A template that names the path tells files apart by itself.
        if "path" in self.variables:
            return None
        places = [
            index
            for index, (is_variable, value) in enumerate(self._parts)
            if is_variable and value in VARIABLES_CONTAINER
        ]
        return (places[0], places[-1]) if places else None


def legal_group(name: str) -> str:
    """
    Return *name* as a legal log group name.
    """
    legal = _GROUP_ILLEGAL.sub("_", name)
    # The prefix `aws/` is reserved; `/aws/` is not.
    if legal.startswith("aws/"):
        legal = "/" + legal
    return _shortened(legal, name) or "tailrace"


def legal_stream(name: str) -> str:
    """
    Return *name* as a legal log stream name.
    """
    return _shortened(_STREAM_ILLEGAL.sub("_", name), name) or "tailrace"


def legal_key(name: str) -> str:
    """
    Return *name* as a legal part of an S3 key: no control characters, no empty, `.` or `..` parts.
    """
    legal = "/".join(
        part for part in _KEY_ILLEGAL.sub("_", name).split("/") if part not in ("", ".", "..")
    )
    if len(legal.encode()) <= KEY_BYTES_MAX:
        return legal or "tailrace"
    tail = f"-{_digest(name)}"
    return legal.encode()[: KEY_BYTES_MAX - len(tail)].decode(errors="ignore") + tail


def _shortened(legal: str, name: str) -> str:
    changed = legal.removeprefix("/") != name.removeprefix("/")
    if not changed and len(legal) <= NAME_LENGTH_MAX:
        return legal
    if not legal:
        return ""
    tail = f"-{_digest(name)}"
    return legal[: NAME_LENGTH_MAX - len(tail)] + tail


def _digest(name: str) -> str:
    return hashlib.blake2b(
        name.encode(errors="surrogatepass"), digest_size=HASH_LENGTH // 2
    ).hexdigest()
