-- The authenticator's lines of EKS, each once: after a change of the Lease an event can be there twice, with one event_id.  It partitions by
-- the days and hours too, so that a query's condition on dt reaches the table.  Where a table is called `authenticator` already
-- (a self-managed control plane's), give this view another name and put that into the queries.
CREATE OR REPLACE VIEW authenticator AS
SELECT *
FROM (
    SELECT *, row_number() OVER (
        PARTITION BY cluster, dt, hour, eks_cluster, event_id ORDER BY node, file_id, "offset"
    ) AS copy
    FROM eks_authenticator
)
WHERE copy = 1 OR event_id IS NULL
