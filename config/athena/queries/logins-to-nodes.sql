-- Who has logged in to a node over SSH, or tried to.
SELECT time, node, text
FROM host
WHERE dt BETWEEN '2026-11-22' AND '2026-11-22'  -- <-- the days
  AND container = 'secure'
  AND ident = 'sshd'
  AND (text LIKE 'Accepted %' OR text LIKE 'Failed %' OR text LIKE 'Invalid user %')
ORDER BY time
