"""
Secrets and personal data in messages and fields, replaced.  `_reference_redact.py` says what is one.
"""

from typing import Final, Self, final

from agent._fastparse import Columns
from agent._fastregex import Regex

#: The built-in kinds, by name: bits.
REDACT_KINDS: Final[dict[str, int]]

@final
class Redactor:
    """
    What a route replaces.  It keeps a buffer, so it belongs to one thread.
    """

    def __new__(
        cls,
        kinds: int,
        *,
        replacements: tuple[bytes, ...],
        patterns: tuple[tuple[Regex, bytes], ...] = ...,
    ) -> Self:
        """
        Replace the built-in *kinds* by *replacements* (one for each of REDACT_KINDS), then *patterns*.
        """
    def redact(self, columns: Columns, open_keys: int) -> int:
        """
        Replace in messages and in extracted fields.

        *open_keys*: bit mask (1 << stream) of the streams within a private key of several lines.  Return the new one.
        """
    @property
    def counts(self) -> tuple[int, ...]:
        """How often the last call replaced each built-in kind, and then each pattern."""
