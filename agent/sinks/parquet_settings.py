"""
Settings of the Parquet sink.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, cast

from msgspec import Meta

from agent.core.aws import AwsSettings
from agent.core.components import ColumnSet, columns_of
from agent.core.templates import NAME_FIELDS_MAX, Template, TemplateError, fields_of
from agent.sinks.parquet_schema import COLUMNS, PARTITIONS

#: Athena reads wide tables, people do not.
COLUMNS_MAX = 40
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
#: S3 refuses smaller parts but the last.
PART_BYTES_MIN = 5 * MIB
_URL = re.compile(
    r"(?:s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?|file://(?P<directory>/.+))"
)


class Destination(NamedTuple):
    """
    A parsed url: a bucket and a prefix (empty, or ending with a slash), or a directory.
    """

    bucket: str
    prefix: str
    directory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotedColumn:
    """
    A field of a parse that becomes a column of its own.
    """

    name: Annotated[
        str,
        Meta(
            pattern=r"^[a-z_][a-z0-9_]{0,62}$",
            description="Name of the column.",
            extra={"expected": "a name of a-z, 0-9 and _, e.g. status"},
        ),
    ]
    type: Annotated[
        Literal["string", "bigint", "double", "boolean", "timestamp"],
        Meta(
            description="Its type; a value that does not fit is NULL, counted, and stays in the message."
        ),
    ] = "string"
    field: Annotated[str, Meta(description="The field; empty: called as the column.")] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetSettings(AwsSettings):
    """
    Where objects go, how large they become, and what may wait on the local disk.
    """

    type: Literal["parquet"] = "parquet"
    url: Annotated[str, Meta(description="s3://bucket/prefix or file:///directory.")]
    prefix: Annotated[
        str,
        Meta(
            description="Below url, above the partitions: a template with {namespace}, {labels.KEY|default}, "
            "{fields.NAME|default} and others; each different prefix has objects and a table of its own."
        ),
    ] = ""
    name_values_max: Annotated[
        int,
        Meta(
            ge=10,
            le=1_000,
            description="Different values of fields in the prefix that the route tells apart after its start, a tenth "
            "of them for one log; in the prefix of all other rows `other` stands for them.",
        ),
    ] = 100
    storage_class: Annotated[
        Literal["", "STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"],
        Meta(description="Storage class of the objects; empty: the bucket's default."),
    ] = ""
    sse: Annotated[
        Literal["", "AES256", "aws:kms"],
        Meta(description="Server-side encryption; empty: the bucket's default."),
    ] = ""
    kms_key_id: Annotated[
        str, Meta(description="KMS key for sse aws:kms; empty: the account's S3 key.")
    ] = ""
    window_bytes_max: Annotated[
        int,
        Meta(
            ge=MIB,
            le=4 * GIB,
            description="Bytes of Parquet in a window, estimated, at which it is sealed.",
        ),
    ] = 128 * MIB
    window_age_s: Annotated[
        float,
        Meta(
            gt=0,
            le=86_400,
            description="Age of a window's first row at which it is sealed, once the window before it is.",
        ),
    ] = 300.0
    staging_bytes_max: Annotated[
        int,
        Meta(
            ge=4 * MIB,
            description="Bytes on the local disk that are not uploaded; at it the route stops reading.",
        ),
    ] = GIB
    frame_bytes: Annotated[
        int,
        Meta(ge=4 * KIB, le=64 * MIB, description="Bytes of rows that are staged in one write."),
    ] = MIB
    frame_age_s: Annotated[
        float,
        Meta(gt=0, le=60, description="Longest time that a row waits in memory to be staged."),
    ] = 1.0
    compression_level: Annotated[
        int,
        Meta(
            ge=1,
            le=22,
            description="zstd level of the Parquet files. 1 makes log lines smaller than 2 to 4, which take longer; "
            "7 saves another tenth, for five times the CPU of compression.",
        ),
    ] = 1
    row_group_rows_max: Annotated[int, Meta(ge=1, description="Rows of a Parquet row group.")] = (
        131_072
    )
    row_group_bytes_max: Annotated[
        int, Meta(ge=64 * KIB, description="Bytes of a Parquet row group before encoding.")
    ] = 16 * MIB
    multipart_bytes_min: Annotated[
        int,
        Meta(
            ge=PART_BYTES_MIN,
            le=GIB,
            description="Objects from this size on are uploaded in parts.",
        ),
    ] = 16 * MIB
    part_bytes: Annotated[
        int,
        Meta(
            ge=PART_BYTES_MIN,
            le=GIB,
            description="Bytes of a part; one is in memory for each upload.",
        ),
    ] = 8 * MIB
    upload_concurrency: Annotated[
        int, Meta(ge=1, le=16, description="Objects uploaded at the same time.")
    ] = 2

    columns: Annotated[
        tuple[PromotedColumn, ...],
        Meta(
            max_length=COLUMNS_MAX,
            description="Fields that become columns; the route needs a parse among its transforms.",
        ),
    ] = ()

    column_sets: Annotated[
        tuple[ColumnSet, ...],
        Meta(
            description="Ready-made columns for what `parse: component` finds: audit for events of the API server's "
            "audit log, components for klog and etcd, authenticator for aws-iam-authenticator, host for syslog."
        ),
    ] = ()

    @property
    def promoted(self) -> tuple[PromotedColumn, ...]:
        """
        All columns that fields become: those of the sets, then those that were named.
        """
        sets = (
            PromotedColumn(name=item.name, type=cast("Any", item.type), field=item.field)
            for item in columns_of(self.column_sets)
        )
        return (*sets, *self.columns)

    def __post_init__(self) -> None:
        """
        Refuse what no single field can be blamed for.
        """
        taken = {item.name for item in (*COLUMNS, *PARTITIONS)}
        taken |= {item.name for item in columns_of(self.column_sets)}
        for item in self.columns:
            if item.name in taken:
                raise ValueError(f'columns: "{item.name}" is there already: give it another name')
            taken.add(item.name)
        if not _URL.fullmatch(self.url):
            raise ValueError(
                f"url: got {self.url!r}, expected s3://bucket/prefix (a bucket has 3 to 63 of a-z, 0-9, . and -) or file:///directory"
            )
        try:
            Template(self.prefix)
        except TemplateError as error:
            raise ValueError(f"prefix: {error}") from error
        if len(self.name_fields) > NAME_FIELDS_MAX:
            raise ValueError(
                f"prefix: {len(self.name_fields)} fields in it, at most {NAME_FIELDS_MAX}"
            )
        if self.kms_key_id and self.sse != "aws:kms":
            raise ValueError(f"kms_key_id: set, but sse is {self.sse!r}, expected aws:kms")

    @property
    def staged_at_once_max(self) -> int:
        """
        Bytes of staging of a window, and of a seal child, whatever is estimated: a full sink waits for neither long.
        """
        return self.staging_bytes_max // 4

    @property
    def linger_s(self) -> float:
        """
        How long a row waits for others in memory.
        """
        return self.frame_age_s

    @property
    def name_fields(self) -> tuple[str, ...]:
        """
        The fields that the prefix is made of.
        """
        return fields_of(self.prefix)

    @property
    def destination(self) -> Destination:
        """
        The url in parts.
        """
        found = _URL.fullmatch(self.url)
        assert found is not None
        prefix = (found["prefix"] or "").strip("/")
        return Destination(
            found["bucket"] or "", f"{prefix}/" if prefix else "", found["directory"] or ""
        )
