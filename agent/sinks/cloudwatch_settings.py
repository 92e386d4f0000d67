"""
What can be configured about the CloudWatch Logs sink.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from agent.core.aws import AwsSettings
from agent.core.templates import NAME_FIELDS_MAX, Template, TemplateError, fields_of

#: facts: names, tags, retention, classes.  0 leaves the group as it is.
RETENTIONS = (
    *(0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
TAGS_MAX = 50
_TAG = re.compile(r"[\w\s.:/=+\-@]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudWatchSettings(AwsSettings):
    """
    Delivers to CloudWatch Logs with PutLogEvents.  The defaults are the names that Container Insights uses.
    """

    type: Literal["cloudwatch"] = "cloudwatch"
    group: Annotated[
        str,
        Meta(
            description="Log group: a template with {cluster}, {namespace}, {labels.KEY|default}, "
            "{fields.NAME|default} and others."
        ),
    ] = "/aws/containerinsights/{cluster}/application"
    stream: Annotated[str, Meta(description="Log stream: a template as for `group`.")] = (
        "{node}-application.var.log.containers.{pod}_{namespace}_{container}"
    )
    name_values_max: Annotated[
        int,
        Meta(
            ge=10,
            le=100_000,
            description="Different values of fields in group and stream that the route tells apart after its start, a "
            "tenth of them for one log; in the names of all other rows `other` stands for them.",
        ),
    ] = 1_000
    format: Annotated[
        Literal["container_insights", "otel", "message"],
        Meta(
            description="Fluent Bit's record for Container Insights, a record of the OpenTelemetry log data model, "
            "or the bare line (the cheapest)."
        ),
    ] = "container_insights"
    emf: Annotated[
        Literal["wrap", "passthrough"],
        Meta(
            description="Lines of the embedded metric format: as every other line, or bare in every format, so that "
            "CloudWatch makes metrics of them, which cost money. Format message sends every line bare."
        ),
    ] = "wrap"
    labels: Annotated[bool, Meta(description="Labels of the pod in every record.")] = False
    annotations: Annotated[
        bool, Meta(description="Those annotations of the pod that are kept, in every record.")
    ] = False
    owner_references: Annotated[
        bool,
        Meta(
            description="Owner references in every record of container_insights; otel names owners."
        ),
    ] = False
    namespace_labels: Annotated[
        bool, Meta(description="Labels of the namespace in every record.")
    ] = False
    create_groups: Annotated[bool, Meta(description="Create log groups that do not exist.")] = True
    retention_days: Annotated[
        int, Meta(description="Retention of groups that are created; 0: leave it (never expire).")
    ] = 0
    tags: Annotated[dict[str, str], Meta(description="Tags of groups that are created.")] = field(
        default_factory=dict
    )
    log_group_class: Annotated[
        Literal["STANDARD", "INFREQUENT_ACCESS", "DELIVERY"],
        Meta(description="Class of groups that are created; cannot be changed later."),
    ] = "STANDARD"
    kms_key_id: Annotated[
        str, Meta(description="ARN of the KMS key of groups that are created.")
    ] = ""
    linger_s: Annotated[
        float,
        Meta(
            ge=0,
            le=300,
            description="Seconds that a line waits for others before it is sent; less costs CPU.",
        ),
    ] = 5.0
    gzip: Annotated[
        bool, Meta(description="Compress requests; falls back to plain where they are refused.")
    ] = True
    request_timeout_s: Annotated[
        float, Meta(gt=0, le=300, description="Seconds for one request, all in all.")
    ] = 30.0
    requests_max: Annotated[
        int,
        Meta(ge=1, le=64, description="Requests in flight at most; the agent starts with fewer."),
    ] = 16

    @property
    def name_fields(self) -> tuple[str, ...]:
        """
        The fields that group and stream are made of.
        """
        return fields_of(self.group, self.stream)

    @property
    def flags_level(self) -> bool:
        """
        Whether records have the level of a row, which its flags hold then.
        """
        return self.format == "otel"

    def __post_init__(self) -> None:
        """
        Check what types cannot say.  Raises ValueError.
        """
        for key in ("group", "stream"):
            try:
                Template(getattr(self, key))
            except TemplateError as error:
                raise ValueError(f"{key}: {error}") from error
        if len(self.name_fields) > NAME_FIELDS_MAX:
            raise ValueError(
                f"stream: {len(self.name_fields)} fields in group and stream, at most {NAME_FIELDS_MAX}"
            )
        if self.retention_days not in RETENTIONS:
            known = " ".join(str(days) for days in RETENTIONS)
            raise ValueError(f"retention_days: got {self.retention_days}, expected one of {known}")
        if len(self.tags) > TAGS_MAX:
            raise ValueError(f"tags: got {len(self.tags)}, at most {TAGS_MAX}")
        for key, value in self.tags.items():
            if not (
                1 <= len(key) <= 128
                and len(value) <= 256
                and _TAG.fullmatch(key)
                and _TAG.fullmatch(value)
            ):
                raise ValueError(
                    f"tags: got {key!r}: {value!r}, expected a key of 1 to 128 and a value of at most 256 "
                    "letters, digits, spaces and _ . : / = + - @"
                )
