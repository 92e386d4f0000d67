-- How long requests take, by verb and resource; watches and streams last as long as their client wants.
SELECT verb, resource, subresource, count(*) AS requests,
       approx_percentile(latency_ms, 0.5) AS p50_ms,
       approx_percentile(latency_ms, 0.99) AS p99_ms,
       max(latency_ms) AS max_ms
FROM audit
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND stage = 'ResponseComplete'
  AND verb <> 'watch'
  AND coalesce(subresource, '') NOT IN ('exec', 'attach', 'portforward', 'proxy', 'log')
GROUP BY verb, resource, subresource
ORDER BY p99_ms DESC
LIMIT 50
