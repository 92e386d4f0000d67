-- Answers of 5xx and 429, minute by minute.
SELECT date_trunc('minute', time) AS minute, code, verb, resource, count(*) AS requests
FROM audit
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND (code >= 500 OR code = 429)
GROUP BY date_trunc('minute', time), code, verb, resource
ORDER BY minute, requests DESC
