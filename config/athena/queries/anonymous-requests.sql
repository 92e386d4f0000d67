-- What nobody in particular was allowed to do, besides health checks.
SELECT request_uri, verb, source_ips, code, count(*) AS requests
FROM audit
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND username = 'system:anonymous'
  AND decision = 'allow'
  AND request_uri NOT LIKE '/healthz%' AND request_uri NOT LIKE '/livez%'
  AND request_uri NOT LIKE '/readyz%' AND request_uri NOT LIKE '/version%'
GROUP BY request_uri, verb, source_ips, code
ORDER BY requests DESC
