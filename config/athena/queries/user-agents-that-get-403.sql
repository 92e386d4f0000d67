-- Which programs are refused, what they asked for, and how often: a broken role, or somebody who looks around.
SELECT user_agent, username, verb, resource, count(*) AS refused, min(time) AS first_time, max(time) AS last_time
FROM audit
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND code = 403
  AND stage = 'ResponseComplete'
GROUP BY user_agent, username, verb, resource
ORDER BY refused DESC, user_agent
LIMIT 100
