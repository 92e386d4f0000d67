"""
Names made from what is known about a container: `/aws/{cluster}/{namespace}`.

A template is parsed once, and rendered once for a Resource and the values of fields.  Variables:

| variable | meaning |
|---|---|
| `{cluster}` `{node}` `{region}` `{zone}` `{instance_id}` | where the agent runs |
| `{namespace}` `{pod}` `{container}` `{pod_uid}` `{restart}` | the container, from its path: always known |
| `{container_id}` `{image}` `{pod_ip}` `{owner_kind}` `{owner_name}` | the container, from the API server |
| `{labels.KEY}` `{annotations.KEY}` `{namespace_labels.KEY}` | by key: `{labels.app.kubernetes.io/name}` |
| `{path}` | path of the live file |
| `{fields.KEY}` | what a parse found in the line: rows of one container go to several names |

`{labels.team|shared}` reads `shared` where it is not known; so does every other variable with a default, which can be
empty.  Without one, what is not known reads `unknown`, and `fallbacks` names it.  `{{` and `}}` stand for braces.

A file that belongs to no container has its path, slashes as dots, in the place from the first to the last variable
about a container that has no default: the tag that Fluent Bit would give it.  So two such files never share a name
by accident.

Whoever labels a pod, or writes a line, cannot choose another place than the template's: a slash in a value becomes
`_`, and so do the dots of `.` and `..`.  A value that was changed ends in a hash of itself.  Only `{path}` keeps its
slashes: it is a place already.

`legal_group`, `legal_stream` and `legal_key` make a name legal (facts: names, tags, retention, classes).  A name
that had to be cut, or in which different characters became the same one, ends in a hash of the original, so
that two containers never share a stream because their names were too long.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.core.batch import Resource

#: Fields of a Resource, and prefixes of those that have keys.
VARIABLES = (
    *("cluster", "node", "namespace", "pod", "container", "path", "pod_uid", "restart"),
    *("container_id", "image", "pod_ip", "owner_kind", "owner_name"),
    *("region", "zone", "instance_id"),
)
VARIABLES_KEYED = ("labels", "annotations", "namespace_labels")
#: Has keys, and is known of a row.
FIELDS = "fields"
NO_FIELDS: Mapping[str, str] = {}
#: Of all templates of a sink (agent._fastsplit.SPLIT_FIELDS_MAX).
NAME_FIELDS_MAX = 8
#: What tells whether a file belongs to a container.
VARIABLES_PATH = ("namespace", "pod", "container", "pod_uid", "restart")
VARIABLES_CONTAINER = frozenset(
    {
        *VARIABLES_PATH,
        *("container_id", "image", "pod_ip", "owner_kind", "owner_name"),
        *VARIABLES_KEYED,
    }
)
UNKNOWN = "unknown"

#: CloudWatch Logs: logGroupName and logStreamName, characters.
NAME_LENGTH_MAX = 512
#: S3 takes keys of 1,024 bytes; partitions and the name of an object need up to 600 of them.  A part is also a
#: directory on the local disk, where 255 is the limit.
KEY_LENGTH_MAX = 256
KEY_PART_LENGTH_MAX = 128
HASH_LENGTH = 8

_KEYED = (*VARIABLES_KEYED, FIELDS)
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_DOTS = re.compile(r"\.{1,2}")
_GROUP_ILLEGAL = re.compile(r"[^.\-_/#A-Za-z0-9]")
_STREAM_ILLEGAL = re.compile(r"[:*\x00-\x1f\x7f\ud800-\udfff]")
_KEY_ILLEGAL = re.compile(r"[^A-Za-z0-9._=-]")


class TemplateError(ValueError):
    """
    A template that cannot be parsed; the text says where, why, and what to write instead.
    """


class Variable(NamedTuple):
    """
    A variable of a template.
    """

    text: str  # as it stands between the braces, without its default
    field: str
    key: str  # of labels, annotations and fields
    default: str | None

    def value(self, resource: Resource, fields: Mapping[str, str]) -> str:
        """
        Return what is known, or "".
        """
        if self.field == FIELDS:
            return fields.get(self.key, "")
        found = getattr(resource, self.field)
        if not self.key:
            return str(found)
        return next((value for key, value in found if key == self.key), "")


class Template:
    """
    A parsed template.
    """

    __slots__ = ("_parts", "_span", "text", "variables")

    def __init__(self, text: str) -> None:
        """
        Parse *text*.

        Raises TemplateError for a variable that there is not, and for a lone brace.
        """
        self.text = text
        self._parts: list[str | Variable] = []
        position = 0
        for match in _TOKEN.finditer(text):
            self._literal(text[position : match.start()])
            position = match.end()
            token = match.group()
            if token in ("{{", "}}"):
                self._literal(token[0])
            elif match.group(1) is None:
                raise self._error(match.start(), f"lone {token!r}; write {token * 2!r} for it")
            else:
                self._variable(match.group(1), match.start())
        self._literal(text[position:])
        #: Its variables, in their order.
        self.variables = tuple(part for part in self._parts if isinstance(part, Variable))
        self._span = self._container_span()

    def render(self, resource: Resource, fields: Mapping[str, str] = NO_FIELDS) -> str:
        """
        Return the name for rows of *resource* with the values *fields*, not yet made legal.
        """
        span = self._span_for(resource)
        rendered: list[str] = []
        for index, part in enumerate(self._parts):
            if index in span:
                if index == span.start:
                    rendered.append(resource.path.strip("/").replace("/", ".") or UNKNOWN)
            elif isinstance(part, Variable):
                rendered.append(_rendered(part, resource, fields))
            else:
                rendered.append(part)
        return "".join(rendered)

    def fallbacks(
        self, resource: Resource, fields: Mapping[str, str] = NO_FIELDS
    ) -> tuple[str, ...]:
        """
        Return the variables that read `unknown` for rows of *resource* with the values *fields*.
        """
        span = self._span_for(resource)
        return tuple(
            part.text
            for index, part in enumerate(self._parts)
            if isinstance(part, Variable)
            and part.default is None
            and index not in span
            and not part.value(resource, fields)
        )

    def keys(self, field: str) -> frozenset[str]:
        """
        Return the keys of `labels`, `annotations`, `namespace_labels` or `fields` that the template reads.
        """
        return frozenset(item.key for item in self.variables if item.field == field)

    def _literal(self, text: str) -> None:
        if text:
            self._parts.append(text)

    def _variable(self, text: str, position: int) -> None:
        name, bar, default = text.partition("|")
        field, dot, key = name.partition(".")
        if dot and field in _KEYED:
            if not key:
                raise self._error(position, f"{{{name}}} without a key; write {{{field}.KEY}}")
        elif name in _KEYED:
            raise self._error(position, f"{{{name}}} without a key; write {{{name}.KEY}}")
        elif name not in VARIABLES:
            raise self._unknown(name, position)
        else:
            field, key = name, ""
        self._parts.append(Variable(name, field, key, default if bar else None))

    def _unknown(self, name: str, position: int) -> TemplateError:
        known = (*VARIABLES, *(f"{field}.KEY" for field in _KEYED))
        field, dot, key = name.partition(".")
        nearest = difflib.get_close_matches(field, _KEYED, n=1, cutoff=0.5) if dot else []
        nearest = [f"{field}.{key or 'KEY'}" for field in nearest]
        nearest = nearest or difflib.get_close_matches(name, VARIABLES, n=1, cutoff=0.5)
        hint = f"did you mean {{{nearest[0]}}}? " if nearest else ""
        listed = ", ".join("{" + variable + "}" for variable in known)
        return self._error(position, f"unknown variable {{{name}}}; {hint}known are {listed}")

    def _error(self, position: int, text: str) -> TemplateError:
        return TemplateError(f"template {self.text!r}: character {position + 1}: {text}")

    def _container_span(self) -> range:
        # A template that names the path tells files apart by itself.
        if any(item.field == "path" for item in self.variables):
            return range(0)
        places = [
            index
            for index, part in enumerate(self._parts)
            if isinstance(part, Variable)
            and part.field in VARIABLES_CONTAINER
            and part.default is None
        ]
        return range(places[0], places[-1] + 1) if places else range(0)

    def _span_for(self, resource: Resource) -> range:
        known = any(getattr(resource, name) for name in VARIABLES_PATH)
        return range(0) if known else self._span


def fields_of(*templates: str) -> tuple[str, ...]:
    """
    Return the fields that names made by *templates* depend on.
    """
    return tuple(sorted(frozenset().union(*(Template(text).keys(FIELDS) for text in templates))))


def _rendered(variable: Variable, resource: Resource, fields: Mapping[str, str]) -> str:
    value = variable.value(resource, fields)
    if not value:
        return UNKNOWN if variable.default is None else variable.default
    if variable.field == "path":
        return value
    harmless = value.replace("/", "_")
    if _DOTS.fullmatch(harmless):
        harmless = harmless.replace(".", "_")
    return harmless if harmless == value else f"{harmless}-{_digest(value)}"


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
    Return *name* as a legal prefix of S3 keys, and of paths: no empty, `.` or `..` parts, nothing that needs an escape.
    """
    parts = [_legal_part(part) for part in name.split("/") if part not in ("", ".", "..")]
    legal = "/".join(parts)
    if len(legal) <= KEY_LENGTH_MAX:
        return legal or "tailrace"
    tail = f"-{_digest(name)}"
    return legal[: KEY_LENGTH_MAX - len(tail)] + tail


def hashed(name: str) -> str:
    """
    Return *name* with a hash of itself behind it.
    """
    return f"{name}-{_digest(name)}"


def _legal_part(part: str) -> str:
    legal = _KEY_ILLEGAL.sub("_", part)
    if legal == part and len(part) <= KEY_PART_LENGTH_MAX:
        return part
    tail = f"-{_digest(part)}"
    return legal[: KEY_PART_LENGTH_MAX - len(tail)] + tail


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
