-- Who has read secrets, one by one or all of a namespace.
SELECT username, verb, object_namespace, object_name, count(*) AS times, max(time) AS last_time
FROM audit
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND resource = 'secrets'
  AND verb IN ('get', 'list', 'watch')
  AND code BETWEEN 200 AND 299
  AND username NOT LIKE 'system:node:%'
  AND username NOT IN ('system:apiserver', 'system:kube-controller-manager')
GROUP BY username, verb, object_namespace, object_name
ORDER BY times DESC, username, object_namespace, object_name
