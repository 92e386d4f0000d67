"""
Where the node runs, as values: what is configured and what was found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSettings:
    """
    Where the node runs; empty: found out.
    """

    region: Annotated[str, Meta(description="Region shown in records; empty: found out.")] = ""
    zone: Annotated[
        str, Meta(description="Availability Zone shown in records; empty: found out.")
    ] = ""
    instance_id: Annotated[
        str, Meta(description="Instance id shown in records; empty: found out.")
    ] = ""
    imds: Annotated[
        bool, Meta(description="Ask the instance metadata service (IMDSv2) for what is not known.")
    ] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """
    What was found; empty stands for what is not known.
    """

    region: str = ""
    zone: str = ""
    instance_id: str = ""

    @property
    def complete(self) -> bool:
        """
        Whether nothing is left to ask for.
        """
        return bool(self.region and self.zone and self.instance_id)

    def filled(self, other: Instance) -> Instance:
        """
        Return this with what is not known taken from *other*.
        """
        return Instance(
            region=self.region or other.region,
            zone=self.zone or other.zone,
            instance_id=self.instance_id or other.instance_id,
        )
