-- How many events of EKS were fetched by more than one agent: more than 15 minutes' worth a day is a Lease that changes
-- hands too often (lease_lost in the agents' own log).  Reads the table, not the view.
SELECT dt, eks_cluster, copies, count(*) AS events, min(first_time) AS first_time, max(first_time) AS last_time
FROM (
    SELECT dt, eks_cluster, event_id, count(*) AS copies, min(time) AS first_time
    FROM eks_audit
    WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
    GROUP BY dt, eks_cluster, event_id
)
WHERE copies > 1
GROUP BY dt, eks_cluster, copies
ORDER BY events DESC
