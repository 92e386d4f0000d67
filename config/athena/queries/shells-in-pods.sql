-- Who has opened a shell or a tunnel into a pod.
SELECT time, username, source_ips, subresource, object_namespace, object_name, request_uri, code
FROM audit
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND resource = 'pods'
  AND subresource IN ('exec', 'attach', 'portforward')
  AND stage IN ('ResponseStarted', 'ResponseComplete')
ORDER BY time
