-- Who has changed roles, bindings and service accounts.
SELECT time, username, verb, resource, object_namespace, object_name, code, request_object
FROM audit
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND (api_group = 'rbac.authorization.k8s.io' OR resource = 'serviceaccounts')
  AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
  AND stage = 'ResponseComplete'
ORDER BY time
