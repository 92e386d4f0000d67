"""
`redact`: secrets and personal data are replaced, in the message and in what was extracted from it.

It happens before anybody else holds the rows, so nothing of it reaches staging, dead letters or a request.  It
looks at rows: a private key over several lines is followed while its lines come in one run of the agent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from agent._fastredact import REDACT_KINDS, Redactor
from agent.core import counters as metric
from agent.core import regex

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent._fastregex import Regex
    from agent.transforms.stage import Work

ALL = "all"
PATTERNS_MAX = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactSettings:
    """
    Replace secrets and personal data in messages and fields.
    """

    redact: Annotated[
        tuple[str, ...],
        Meta(
            description=f"Built-in kinds: {', '.join(REDACT_KINDS)}; or {ALL}; empty where only patterns are given."
        ),
    ]
    patterns: Annotated[
        dict[str, str],
        Meta(
            max_length=PATTERNS_MAX,
            description="Regular expressions of your own, by the name of what they find.",
        ),
    ] = field(default_factory=dict)
    replacement: Annotated[
        str, Meta(description="What stands in its place; {kind} is the name of what was found.")
    ] = "[redacted:{kind}]"

    def __post_init__(self) -> None:
        """
        Refuse kinds and patterns that are none.
        """
        for name in self.redact:
            if name != ALL and name not in REDACT_KINDS:
                known = ", ".join((*REDACT_KINDS, ALL))
                raise ValueError(f'redact: got "{name}", expected some of {known}')
        if not self.redact and not self.patterns:
            raise ValueError("redact: is empty, and there are no patterns")
        for name in self.patterns:
            self._compiled(name)

    def _compiled(self, name: str) -> Regex:
        try:
            return regex.compile_pattern(self.patterns[name])
        except ValueError as error:
            raise ValueError(f"patterns: {name}: {error}") from error

    def text(self, kind: str) -> bytes:
        """
        Return what stands in the place of a *kind*.
        """
        return self.replacement.replace("{kind}", kind).encode()

    def redactor(self) -> Redactor:
        """
        Return what does it.
        """
        kinds = REDACT_KINDS if ALL in self.redact else self.redact
        return Redactor(
            sum(REDACT_KINDS[name] for name in kinds),
            replacements=tuple(self.text(name) for name in REDACT_KINDS),
            patterns=tuple((self._compiled(name), self.text(name)) for name in self.patterns),
        )


class RedactStage:
    """
    One redact of a route.
    """

    uses_level = False

    def __init__(self, settings: RedactSettings) -> None:
        self._redactor = settings.redactor()
        self._kinds = (*REDACT_KINDS, *settings.patterns)

    def fields_used(self) -> Iterable[str]:
        return ()

    def apply(self, work: Work) -> None:
        """
        Replace, and count by kind.
        """
        open_keys = work.carry.get(id(self), 0)
        work.carry[id(self)] = self._redactor.redact(work.columns, open_keys)
        for kind, count in zip(self._kinds, self._redactor.counts, strict=True):
            if count:
                work.counters.add(metric.REDACTED, count, work.route, kind)
