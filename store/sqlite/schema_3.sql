-- A store of Persistasaurus, version 3: a stream that has failed keeps its signals.
--
-- `stream.state` can be 3 from now on: it takes no new signals, and keeps those in its inbox for when somebody
-- lets it go on. Older code would take such a stream for one that takes signals.
--
-- The views `steps`, `timers` and `signals` tell of it. What is due after the year 9999 is told as due at its end.
--
-- The word 0 is the name of the store: by it a log is known that belongs to another one.

INSERT INTO word VALUES (0, 'store ' || lower(hex(randomblob(16))));

DROP VIEW flows;
DROP VIEW steps;
DROP VIEW timers;
DROP VIEW signals;

CREATE VIEW flows AS
-- Each flow, and how it stands.
--
-- This holds for all views. Columns are only ever appended, and keep their names, places and meanings; views
-- may be added, and a status may get more words.
-- Instants are UTC, in ISO 8601 with milliseconds: they sort as text, and julianday() reads them. Values
-- are JSON: args ->> '$.email'. Add  WHERE flow_id = '...'  where you can: it takes milliseconds, however
-- large the store is. Otherwise flows and dead_letters are quick, and the others take some ten seconds for
-- each million of events. An event whose body has rotted is passed over; `persistasaurus verify` names it.
SELECT
  s.name AS flow_id,
  t.word AS type, -- the name of the flow's type
  w.word AS status, -- running, waiting, paused, parked, completed or failed
  ifnull(n.version, s.version) AS version, -- of its newest event: how many it has
  strftime('%Y-%m-%dT%H:%M:%fZ', s.created_at / 1000 / 1e3, 'unixepoch') AS created_at,
  strftime('%Y-%m-%dT%H:%M:%fZ', n.at / 1000 / 1e3, 'unixepoch') AS updated_at, -- when its newest event happened
  -- The earliest instant at which it has something to do. NULL: only a signal or a person makes it go on.
  strftime('%Y-%m-%dT%H:%M:%fZ', min(s.wake_at / 1000 / 1e3, 253402300799.999), 'unixepoch') AS wake_at,
  -- How many acknowledged signals it has not looked at yet.
  (SELECT count(*) FROM inbox i WHERE i.stream = s.id AND i.settled IS NULL) AS inbox,
  (SELECT a.data -> '$.args' FROM record a
    WHERE a.stream = s.id AND a.version = 1 AND typeof(a.data) = 'text' AND json_valid(a.data)) AS args,
  CASE w.word WHEN 'completed' THEN e.data -> '$.result' END AS result,
  CASE w.word -- what it has failed with, or why it is parked
    WHEN 'failed' THEN (e.data ->> '$.error.type') || ': ' || (e.data ->> '$.error.message')
    WHEN 'parked' THEN (e.data ->> '$.reason') || ': ' || (e.data ->> '$.message')
  END AS error
FROM stream s
JOIN word t ON t.id = s.type
JOIN word w ON w.id = s.status AND w.word <> 'actor' -- what is no flow
LEFT JOIN record n
  ON n.stream = s.id AND n.version = (SELECT max(m.version) FROM record m WHERE m.stream = s.id)
LEFT JOIN record e
  ON w.word IN ('completed', 'failed', 'parked') AND typeof(e.data) = 'text' AND json_valid(e.data)
  AND e.position = (
    SELECT l.position FROM record l
    WHERE l.stream = s.id
      AND l.kind = (SELECT id FROM word WHERE word = CASE w.word
        WHEN 'completed' THEN 'flow_completed' WHEN 'failed' THEN 'flow_failed' ELSE 'parked' END)
    ORDER BY l.version DESC LIMIT 1);

CREATE VIEW steps AS
-- Each step that a flow has called: one row, however often it was tried.
SELECT
  v.flow_id AS flow_id,
  v.step AS step, -- counts from 1 in each flow
  b.data ->> '$.name' AS name,
  CASE
    WHEN v.is_void THEN 'void' -- a repair has undone it; what is done anew has another number
    WHEN k.word = 'step_completed' THEN 'completed'
    WHEN k.word = 'step_failed' AND l.data ->> '$.retry_at' IS NULL THEN 'failed' -- for good
    WHEN s.state IN (2, 3) THEN 'abandoned' -- the flow has ended first
    WHEN k.word = 'signal_awaited' THEN 'waiting' -- for the signal that it runs with
    WHEN k.word = 'step_scheduled' THEN 'scheduled' -- waits for its delay
    WHEN k.word = 'step_failed' THEN 'retrying' -- waits for its next attempt
    WHEN k.word = 'step_interrupted' THEN 'interrupted' -- a shutdown did not wait for it
    ELSE 'started' -- runs, or did when the process died
  END AS status,
  v.attempts AS attempts, -- how often it was begun
  strftime('%Y-%m-%dT%H:%M:%fZ', v.called_at / 1000 / 1e3, 'unixepoch') AS called_at, -- when the flow came to it
  -- When it was begun for the first time.
  strftime('%Y-%m-%dT%H:%M:%fZ', v.started_at / 1000 / 1e3, 'unixepoch') AS started_at,
  -- When it is to be begun, while it waits for that.
  CASE WHEN NOT v.is_void AND s.state NOT IN (2, 3) THEN strftime('%Y-%m-%dT%H:%M:%fZ',
    min(ifnull(l.data ->> '$.due', l.data ->> '$.retry_at') / 1000 / 1e3, 253402300799.999), 'unixepoch') END AS due_at,
  -- When it has completed, or failed for good.
  CASE WHEN NOT v.is_void AND (k.word = 'step_completed' OR k.word = 'step_failed' AND l.data ->> '$.retry_at' IS NULL)
    THEN strftime('%Y-%m-%dT%H:%M:%fZ', l.at / 1000 / 1e3, 'unixepoch') END AS ended_at,
  b.data -> '$.args' AS args,
  CASE WHEN NOT v.is_void THEN l.data -> '$.result' END AS result,
  -- What it has failed with, until it is tried again.
  CASE WHEN NOT v.is_void THEN (l.data ->> '$.error.type') || ': ' || (l.data ->> '$.error.message') END AS error,
  b.data ->> '$.line' AS line -- where the flow calls it
FROM (
  SELECT flow_id, step, position,
    max(position) FILTER (WHERE begins) OVER op AS begun,
    ifnull(since <= version, 0) AS is_void,
    max(position) FILTER (WHERE ifnull(instr(retried, ',' || version || ','), 0) = 0) OVER op AS last,
    count(*) FILTER (WHERE event IN ('step_started', 'step_attempted')) OVER op AS attempts,
    min(at) OVER op AS called_at,
    min(at) FILTER (WHERE event IN ('step_started', 'step_attempted')) OVER op AS started_at
  FROM (
    -- See the view `events` for what repairs make void.
    SELECT flow_id, version, position, at, event,
      event IN ('signal_awaited', 'step_scheduled', 'step_started') AS begins,
      body ->> '$.step' AS step,
      min(CASE event WHEN 'repaired' THEN body ->> '$.since' END) OVER later AS since,
      group_concat(CASE event WHEN 'repaired' THEN replace(replace(
        body ->> '$.retried', '[', ','), ']', ',') END) OVER later AS retried
    FROM (
      SELECT s.name AS flow_id, r.version, r.position, r.at, k.word AS event,
        CASE WHEN typeof(r.data) = 'text' AND json_valid(r.data) THEN r.data END AS body
      FROM stream s
      JOIN word w ON w.id = s.status AND w.word <> 'actor'
      JOIN record r ON r.stream = s.id
      JOIN word k ON k.id = r.kind AND (k.word GLOB 'step_*' OR k.word IN ('signal_awaited', 'repaired'))
    )
    WINDOW later AS (PARTITION BY flow_id ORDER BY version DESC)
  )
  WHERE step > 0
  WINDOW op AS (PARTITION BY flow_id, step)
) v
JOIN stream s ON s.name = v.flow_id
JOIN record b ON b.position = v.begun
JOIN record l ON l.position = v.last
JOIN word k ON k.id = l.kind
WHERE v.position = v.begun;

CREATE VIEW timers AS
-- Each sleep of a flow. Delays and retries are in `steps`.
SELECT
  v.flow_id AS flow_id,
  v.timer AS timer, -- counts from 1 in each flow
  CASE
    WHEN v.since <= v.version THEN 'void' -- a repair has undone it; what is done anew has another number
    WHEN v.fired_at IS NOT NULL THEN 'fired'
    WHEN s.state IN (2, 3) THEN 'abandoned' -- the flow has ended first
    ELSE 'set'
  END AS status,
  strftime('%Y-%m-%dT%H:%M:%fZ', v.at / 1000 / 1e3, 'unixepoch') AS set_at,
  strftime('%Y-%m-%dT%H:%M:%fZ', min((b.data ->> '$.due') / 1000 / 1e3, 253402300799.999), 'unixepoch') AS due_at,
  strftime('%Y-%m-%dT%H:%M:%fZ', v.fired_at / 1000 / 1e3, 'unixepoch') AS fired_at,
  b.data ->> '$.line' AS line -- where the flow sleeps
FROM (
  SELECT flow_id, version, position, at, event, timer, since,
    max(at) FILTER (WHERE event = 'timer_fired') OVER (PARTITION BY flow_id, timer) AS fired_at
  FROM (
    -- See the view `events` for what repairs make void.
    SELECT flow_id, version, position, at, event,
      body ->> '$.timer' AS timer,
      min(CASE event WHEN 'repaired' THEN body ->> '$.since' END) OVER later AS since
    FROM (
      SELECT s.name AS flow_id, r.version, r.position, r.at, k.word AS event,
        CASE WHEN typeof(r.data) = 'text' AND json_valid(r.data) THEN r.data END AS body
      FROM stream s
      JOIN word w ON w.id = s.status AND w.word <> 'actor'
      JOIN record r ON r.stream = s.id
      JOIN word k ON k.id = r.kind AND k.word IN ('timer_set', 'timer_fired', 'repaired')
    )
    WINDOW later AS (PARTITION BY flow_id ORDER BY version DESC)
  )
  WHERE timer > 0
) v
JOIN stream s ON s.name = v.flow_id
JOIN record b ON b.position = v.position
WHERE v.event = 'timer_set';

CREATE VIEW signals AS
-- Each signal that was acknowledged; and, as one that is awaited, each that a flow waits for.
SELECT
  s.name AS flow_id,
  i.name AS name,
  CASE
    WHEN i.settled IS NULL THEN 'unread' -- acknowledged and kept; the flow has not taken it
    WHEN d.id IS NULL THEN 'consumed' -- the flow has taken it
    ELSE 'refused' -- among the dead letters
  END AS status, -- or awaited: the flow waits, and none has come yet
  i.key AS key, -- the signal's id; NULL if it is awaited
  strftime('%Y-%m-%dT%H:%M:%fZ', i.at / 1000 / 1e3, 'unixepoch') AS at, -- when it came, or since when it is awaited
  i.data AS payload, -- NULL if it is awaited
  d.reason AS reason, -- why it is among the dead letters
  NULL AS step, -- the number of the step that it is awaited for, if it is for a step
  NULL AS line -- where the flow awaits it
FROM inbox i
JOIN stream s ON s.id = i.stream
LEFT JOIN dead_letter d ON d.inbox = i.id
WHERE i.settled IS NULL OR d.id IS NOT NULL OR s.state = 2
UNION ALL
-- What else a flow has in its history it has taken, or will take when it awaits it. Signals and waits of a
-- name meet in their order, as they do in the flow. A wait that a repair has undone has met nothing; the signal
-- is kept.
SELECT v.flow_id, v.name,
  CASE WHEN v.event = 'signal_awaited' THEN 'awaited' WHEN v.nth > v.awaited THEN 'unread' ELSE 'consumed' END,
  i.key,
  strftime('%Y-%m-%dT%H:%M:%fZ', ifnull(i.at, v.at) / 1000 / 1e3, 'unixepoch'),
  i.data, NULL, v.step, v.line
FROM (
  SELECT flow_id, stream, state, at, event, name, key, step, line,
    count(*) FILTER (WHERE event = 'signal_received') OVER (PARTITION BY flow_id, name) AS received,
    count(*) FILTER (WHERE event = 'signal_awaited') OVER (PARTITION BY flow_id, name) AS awaited,
    -- All by the same partition: with another one, SQLite would look at each flow in order to find one.
    count(*) FILTER (WHERE event = 'signal_received') OVER (PARTITION BY flow_id, name ORDER BY version) AS nth,
    count(*) FILTER (WHERE event = 'signal_awaited') OVER (PARTITION BY flow_id, name ORDER BY version) AS place
  FROM (
    -- See the view `events` for what repairs make void.
    SELECT flow_id, stream, state, version, at, event, is_dead,
      body ->> '$.name' AS name, body ->> '$.key' AS key, body ->> '$.step' AS step, body ->> '$.line' AS line,
      min(CASE event WHEN 'repaired' THEN body ->> '$.since' END) OVER later AS since
    FROM (
      SELECT s.name AS flow_id, s.id AS stream, s.state, r.version, r.at, k.word AS event, d.id IS NOT NULL AS is_dead,
        CASE WHEN typeof(r.data) = 'text' AND json_valid(r.data) THEN r.data END AS body
      FROM stream s
      JOIN word w ON w.id = s.status AND w.word <> 'actor'
      JOIN record r ON r.stream = s.id
      JOIN word k ON k.id = r.kind AND k.word IN ('signal_awaited', 'signal_received', 'repaired')
      LEFT JOIN inbox i ON k.word = 'signal_received' AND i.stream = s.id AND typeof(r.data) = 'text'
        AND i.key = CASE WHEN json_valid(r.data) THEN r.data ->> '$.key' END
      LEFT JOIN dead_letter d ON d.inbox = i.id
      WHERE s.state <> 2 -- those that have ended wait for nothing, and have given up what they did not take
    )
    WINDOW later AS (PARTITION BY flow_id ORDER BY version DESC)
  )
  WHERE name IS NOT NULL
    AND (event = 'signal_received' AND NOT is_dead OR event = 'signal_awaited' AND NOT ifnull(since <= version, 0))
) v
LEFT JOIN inbox i ON v.event = 'signal_received' AND i.stream = v.stream AND i.key = v.key
WHERE CASE v.event
  WHEN 'signal_awaited' THEN v.place > v.received AND v.state <> 3 -- what has failed waits for nothing
  ELSE i.id IS NOT NULL
END;
