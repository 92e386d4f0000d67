CREATE EXTERNAL TABLE IF NOT EXISTS `eks_components` (
  `time` timestamp COMMENT 'Event time, UTC, milliseconds',
  `time_ns` bigint COMMENT 'Event time, nanoseconds since 1970-01-01 UTC',
  `stream` string COMMENT 'stdout, stderr or other',
  `level` string COMMENT 'TRACE, DEBUG, INFO, WARN, ERROR or FATAL; NULL where it was not parsed',
  `message` string COMMENT 'The line, without its container runtime prefix',
  `namespace` string COMMENT 'Kubernetes namespace',
  `pod` string COMMENT 'Pod name',
  `container` string COMMENT 'Container name',
  `node` string COMMENT 'Node name',
  `pod_uid` string COMMENT 'Pod UID',
  `file` string COMMENT 'Path of the log file on the node',
  `file_id` string COMMENT 'Identity of the file over renames and compression',
  `offset` bigint COMMENT 'Byte offset of the row in its file',
  `row_kind` string COMMENT 'line, or summary of dropped lines; (node, file_id, offset, row_kind) is unique',
  `truncated` boolean COMMENT 'Cut at the maximum length of a line',
  `unterminated` boolean COMMENT 'The end of the line never came',
  `invalid` boolean COMMENT 'Not a line of the file\'s format; time is that of reading',
  `container_id` string COMMENT 'Id of the container; NULL where not known',
  `image` string COMMENT 'Image of the container; NULL where not known',
  `pod_ip` string COMMENT 'Address of the pod; NULL where not known',
  `owner_kind` string COMMENT 'Deployment, DaemonSet, CronJob, …; NULL without one',
  `owner_name` string COMMENT 'Name of the owner; NULL without one',
  `region` string COMMENT 'Region of the node; NULL where not known',
  `zone` string COMMENT 'Availability zone of the node; NULL where not known',
  `instance_id` string COMMENT 'EC2 instance; NULL where not known',
  `msg` string COMMENT 'Extracted from the message; NULL where it is not there or not of the type',
  `caller` string COMMENT 'Extracted from the message; NULL where it is not there or not of the type',
  `err` string COMMENT 'Extracted from the message; NULL where it is not there or not of the type',
  `error` string COMMENT 'Extracted from the message; NULL where it is not there or not of the type',
  `logger` string COMMENT 'Extracted from the message; NULL where it is not there or not of the type',
  `verbosity` bigint COMMENT 'Extracted from the message; NULL where it is not there or not of the type',
  `event_id` string COMMENT 'Extracted from the message; NULL where it is not there or not of the type',
  `log_type` string COMMENT 'Extracted from the message; NULL where it is not there or not of the type',
  `log_stream` string COMMENT 'Extracted from the message; NULL where it is not there or not of the type',
  `eks_cluster` string COMMENT 'Extracted from the message; NULL where it is not there or not of the type',
  `labels` map<string,string> COMMENT 'Labels of the pod'
)
COMMENT 'Container logs, written by Tailrace'
PARTITIONED BY (
  `cluster` string COMMENT 'Cluster name',
  `dt` string COMMENT 'Day of the event time, UTC, yyyy-MM-dd',
  `hour` string COMMENT 'Hour of the event time, UTC, 00 to 23'
)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat'
LOCATION 's3://my-logs/logs/eks-components/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.cluster.type' = 'enum',
  'projection.cluster.values' = 'production',
  'projection.dt.type' = 'date',
  'projection.dt.range' = '2026-01-01,NOW+1DAYS',
  'projection.dt.format' = 'yyyy-MM-dd',
  'projection.dt.interval' = '1',
  'projection.dt.interval.unit' = 'DAYS',
  'projection.hour.type' = 'integer',
  'projection.hour.range' = '0,23',
  'projection.hour.digits' = '2',
  'storage.location.template' = 's3://my-logs/logs/eks-components/cluster=${cluster}/dt=${dt}/hour=${hour}/',
  'classification' = 'parquet',
  'parquet.compression' = 'ZSTD'
);
