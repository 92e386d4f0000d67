-- Where components report errors: by the line of code, the most frequent first.
SELECT container, caller, min(msg) AS example, count(*) AS errors, max(time) AS last_time
FROM components
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND level IN ('ERROR', 'FATAL')
GROUP BY container, caller
ORDER BY errors DESC, container
LIMIT 50
