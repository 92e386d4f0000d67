"""
`multiline`: lines of one stream that are one event become one row, joined with newlines.

It stands first: lines are joined where they are read, after the pieces of the container runtime, so that there is
no second queue.  The group that is open holds its stream's cursor, for hold_max_s at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from agent._fastjoin import LANGUAGES, Joiner
from agent.core import regex
from agent.transforms import component


@dataclass(frozen=True, slots=True, kw_only=True)
class MultilineSettings:
    """
    Join lines that are one event.  It has to be the first transform of its route.
    """

    multiline: Annotated[
        Literal["auto", "java", "python", "go", "ruby", "dotnet", "node", "component", "custom"],
        Meta(
            description="Whose stack traces; auto recognises them; component knows what begins an event of a component "
            "of the control plane; custom takes start, continue_with and end."
        ),
    ]
    start: Annotated[
        str, Meta(description="Of custom: a line that this matches begins an event.")
    ] = ""
    continue_with: Annotated[
        str,
        Meta(description="Of custom: only lines that this matches go on with an event."),
    ] = ""
    end: Annotated[
        str, Meta(description="Of custom: behind a line that this matches an event begins.")
    ] = ""
    lines_max: Annotated[
        int, Meta(ge=2, le=100_000, description="Lines of an event; more become the next one.")
    ] = 1_000
    bytes_max: Annotated[
        int,
        Meta(
            ge=1_024,
            le=16 * 2**20,
            description="Bytes of an event; more become the next one.",
        ),
    ] = 256 * 1024
    hold_max_s: Annotated[
        float,
        Meta(
            gt=0,
            le=60,
            description="Longest time that the last line of a stream waits for what may follow it.",
        ),
    ] = 5.0

    def __post_init__(self) -> None:
        """
        Refuse patterns that are none, and those that nobody looks at.
        """
        patterns = {"start": self.start, "continue_with": self.continue_with, "end": self.end}
        given = [name for name, pattern in patterns.items() if pattern]
        if self.multiline == "custom" and not given:
            raise ValueError("multiline: custom needs start, continue_with or end")
        if self.multiline != "custom" and given:
            raise ValueError(f"{given[0]}: set, but multiline is {self.multiline}, expected custom")
        for name in given:
            try:
                regex.compile_pattern(patterns[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error

    def joiner(self, container: str) -> Joiner | None:
        """
        Return a joiner for rows of *container*, with nothing open; None where every line is an event.
        """
        patterns = {
            name: regex.compile_pattern(pattern) if pattern else None
            for name, pattern in (
                ("start", self.start),
                ("goes_on", self.continue_with),
                ("end", self.end),
            )
        }
        if self.multiline == "component":
            patterns["start"] = component.joins(container)
            if patterns["start"] is None:
                return None
        return Joiner(
            languages=LANGUAGES.get(self.multiline, 0),
            lines_max=self.lines_max,
            bytes_max=self.bytes_max,
            hold_max_s=self.hold_max_s,
            **patterns,
        )
