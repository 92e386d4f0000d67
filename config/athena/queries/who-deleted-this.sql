-- Who deleted an object, from where, and whether it went through.
SELECT time, username, impersonated_user, source_ips, user_agent, verb, object_namespace, object_name, code
FROM audit
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND verb IN ('delete', 'deletecollection')
  AND resource = 'deployments'                  -- <-- what
  AND object_namespace = 'shop'                 -- <-- where
  AND (object_name = 'web' OR object_name IS NULL)  -- <-- which; a deletecollection names none
  AND stage = 'ResponseComplete'
ORDER BY time
