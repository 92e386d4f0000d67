-- When controller manager and scheduler lost or took their lease, and on which node.
SELECT time, node, container, msg
FROM components
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND (msg LIKE '%successfully acquired lease%' OR msg LIKE '%leaderelection lost%'
       OR msg LIKE '%failed to renew lease%')
ORDER BY time
