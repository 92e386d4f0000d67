-- How often etcd is slow, minute by minute: usually its disk.
SELECT date_trunc('minute', time) AS minute, node, msg, count(*) AS times
FROM components
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND container = 'etcd'
  AND (msg LIKE '%took too long%' OR msg LIKE '%slow fdatasync%' OR msg LIKE '%heartbeat%')
GROUP BY date_trunc('minute', time), node, msg
ORDER BY minute, times DESC
