-- Who asks most: where the load of the API server comes from.
SELECT username, user_agent, verb, resource, count(*) AS requests, sum(latency_ms) / 1000 AS seconds
FROM audit
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND stage = 'ResponseComplete'
GROUP BY username, user_agent, verb, resource
ORDER BY requests DESC, username
LIMIT 50
