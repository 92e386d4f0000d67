-- Who acts as somebody else.
SELECT username, impersonated_user, verb, resource, code, count(*) AS requests
FROM audit
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND impersonated_user IS NOT NULL
  AND stage = 'ResponseComplete'
GROUP BY username, impersonated_user, verb, resource, code
ORDER BY requests DESC
