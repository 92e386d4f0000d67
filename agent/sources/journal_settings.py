"""
Settings of the source `journal`: what systemd's journal has of some units.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from agent.core.components import ComponentNames
from agent.sources.spooled import SPOOL_BYTES, SpoolBytes

_MATCH = re.compile(r"[A-Z_][A-Z0-9_]*=.*")
_PATTERN = re.compile(r"[*?\[]")
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@*?\[\]-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSettings:
    """
    Follows the journal of systemd through `journalctl`.  Each unit that is named is a Log, all else is another one.
    """

    type: Literal["journal"] = "journal"
    units: Annotated[
        tuple[str, ...],
        Meta(max_length=64, description="Units to follow, e.g. kubelet.service; empty: all."),
    ] = ()
    matches: Annotated[
        tuple[str, ...],
        Meta(
            max_length=64,
            description="Entries to follow: FIELD=VALUE as for journalctl, e.g. _TRANSPORT=kernel. Several values of "
            "one field are alternatives, several fields have to match together.",
        ),
    ] = ()
    component: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9-]{1,63}$",
            description="Container that entries have in templates, select and `parse: component`, other than those of "
            "a unit that is named: kubelet.service is kubelet.",
            extra={"expected": "a name of a-z, 0-9 and -, e.g. dmesg"},
        ),
    ] = "journal"
    directory: Annotated[
        str,
        Meta(
            description="Directory of the journal, e.g. of a host's that is mounted: /host/var/log/journal; empty: "
            "that of this machine."
        ),
    ] = ""
    start: Annotated[
        Literal["beginning", "end"],
        Meta(description="Where to begin when the source is started for the first time."),
    ] = "beginning"
    journalctl: Annotated[
        str, Meta(min_length=1, description="The command: a name to be found in PATH, or a path.")
    ] = "journalctl"

    spool_bytes_max: SpoolBytes = SPOOL_BYTES

    @property
    def components(self) -> dict[str, str]:
        """
        The component of every unit that is named, and no pattern.
        """
        return {unit: _component(unit) for unit in self.units if not _PATTERN.search(unit)}

    @property
    def components_by_path(self) -> ComponentNames:
        """
        Whose a Log of the spool is.
        """
        return ComponentNames()

    def problems(self) -> list[tuple[str, object, str]]:
        """
        Check what journalctl would refuse, or take for something else.
        """
        found: list[tuple[str, object, str]] = [
            ("units", unit, "names of units, e.g. kubelet.service")
            for unit in self.units
            if not _UNIT.fullmatch(unit) or unit.startswith("-")
        ]
        found += [
            ("matches", match, "FIELD=VALUE in upper case, e.g. _TRANSPORT=kernel")
            for match in self.matches
            if not _MATCH.fullmatch(match)
        ]
        if self.directory and not self.directory.startswith("/"):
            found.append(
                ("directory", self.directory, "an absolute path, e.g. /host/var/log/journal")
            )
        return found


def _component(unit: str) -> str:
    # A file is called like it: getty@tty1.service is getty-tty1.
    stem = unit.rpartition(".")[0] or unit
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:63] or "journal"
