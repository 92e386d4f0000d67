-- Which users of Kubernetes the identities of AWS became.
SELECT arn, mapped_username, mapped_groups, count(*) AS logins, max(time) AS last_time
FROM authenticator
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND msg = 'access granted'
GROUP BY arn, mapped_username, mapped_groups
ORDER BY logins DESC
