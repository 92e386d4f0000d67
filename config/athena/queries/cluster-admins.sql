-- Who acts as a member of system:masters, past all roles.
SELECT username, user_agent, count(*) AS requests, min(time) AS first_time, max(time) AS last_time
FROM audit
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND json_array_contains(groups, 'system:masters')
GROUP BY username, user_agent
ORDER BY requests DESC
