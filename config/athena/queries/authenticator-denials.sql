-- Which identities of AWS were turned away, and why: usually a role that is not mapped.
SELECT arn, error, count(*) AS denials, min(time) AS first_time, max(time) AS last_time
FROM authenticator
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND msg = 'access denied'
GROUP BY arn, error
ORDER BY denials DESC, arn
