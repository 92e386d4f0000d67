-- Everything about one request: its stages, as they were written.
SELECT time, stage, audit_level, code, latency_ms, message
FROM audit
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND audit_id = 'id-delete'                    -- <-- which
ORDER BY time
