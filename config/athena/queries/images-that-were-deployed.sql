-- Which images were rolled out, by whom: out of the request, where the audit policy keeps it.
SELECT time, username, object_namespace, object_name,
       json_extract_scalar(request_object, '$.spec.template.spec.containers[0].image') AS image
FROM audit
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND resource = 'deployments'
  AND verb IN ('create', 'update', 'patch')
  AND stage = 'ResponseComplete'
  AND json_extract_scalar(request_object, '$.spec.template.spec.containers[0].image') IS NOT NULL
ORDER BY time
