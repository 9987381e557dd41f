-- A store of Persistasaurus, version 2: views, to be asked with any SQLite tool (3.38 or later).
--
-- They are derived from the tables whenever they are asked: nothing is kept twice.

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
  strftime('%Y-%m-%dT%H:%M:%fZ', s.wake_at / 1000 / 1e3, 'unixepoch') AS wake_at,
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

CREATE VIEW events AS
-- What has happened to each flow: its history, event by event.
SELECT
  v.flow_id AS flow_id,
  v.version AS version, -- counts from 1 in each flow
  v.position AS position, -- rises through all flows, in the order of commits
  strftime('%Y-%m-%dT%H:%M:%fZ', v.at / 1000 / 1e3, 'unixepoch') AS at,
  v.event AS event, -- flow_started, step_started, step_completed, ...
  v.step AS step, -- the number of the step that it is about
  v.timer AS timer, -- the number of the sleep that it is about
  -- 1: a repair has made it void. It stays on record, and the flow goes on as if it had not happened.
  ifnull(v.since <= v.begun, 0) OR ifnull(instr(v.retried, ',' || v.version || ','), 0) > 0 AS void,
  d.data AS data -- all of the event
FROM (
  -- What the code did from the version `since` of a later repair on is void, with all that came of it:
  -- whatever happened to a step or a sleep that began there. So are the failures that a repair retries.
  SELECT *, CASE
    WHEN event IN ('flow_completed', 'flow_failed', 'signal_awaited') THEN version
    WHEN step > 0 OR timer > 0 THEN max(
      CASE WHEN event IN ('signal_awaited', 'step_scheduled', 'step_started', 'timer_set') THEN version END
    ) OVER (PARTITION BY flow_id, step, timer ORDER BY version)
  END AS begun
  FROM (
    SELECT flow_id, version, position, at, event,
      CASE WHEN event <> 'flow_failed' THEN body ->> '$.step' END AS step,
      body ->> '$.timer' AS timer,
      min(CASE event WHEN 'repaired' THEN body ->> '$.since' END) OVER later AS since,
      group_concat(CASE event WHEN 'repaired' THEN replace(replace(
        body ->> '$.retried', '[', ','), ']', ',') END) OVER later AS retried
    FROM (
      SELECT s.name AS flow_id, r.version, r.position, r.at, k.word AS event,
        CASE WHEN typeof(r.data) = 'text' AND json_valid(r.data) THEN r.data END AS body
      FROM stream s
      JOIN word w ON w.id = s.status AND w.word <> 'actor'
      JOIN record r ON r.stream = s.id
      JOIN word k ON k.id = r.kind
    )
    WINDOW later AS (PARTITION BY flow_id ORDER BY version DESC)
  )
) v
LEFT JOIN record d ON d.position = v.position;

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
    WHEN s.state = 2 THEN 'abandoned' -- the flow has ended first
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
  CASE WHEN NOT v.is_void AND s.state <> 2 THEN strftime('%Y-%m-%dT%H:%M:%fZ',
    ifnull(l.data ->> '$.due', l.data ->> '$.retry_at') / 1000 / 1e3, 'unixepoch') END AS due_at,
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
    WHEN s.state = 2 THEN 'abandoned' -- the flow has ended first
    ELSE 'set'
  END AS status,
  strftime('%Y-%m-%dT%H:%M:%fZ', v.at / 1000 / 1e3, 'unixepoch') AS set_at,
  strftime('%Y-%m-%dT%H:%M:%fZ', (b.data ->> '$.due') / 1000 / 1e3, 'unixepoch') AS due_at,
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
    WHEN i.settled IS NULL THEN 'waiting' -- acknowledged, and the flow has not looked at it yet
    WHEN d.id IS NULL THEN 'consumed' -- in the flow's history, and taken as soon as it is awaited
    ELSE 'refused' -- among the dead letters
  END AS status, -- or awaited: the flow waits, and none has come yet
  i.key AS key, -- the signal's id; NULL if it is awaited
  strftime('%Y-%m-%dT%H:%M:%fZ', i.at / 1000 / 1e3, 'unixepoch') AS at, -- when it came, or since when it is awaited
  i.data AS payload, -- NULL if it is awaited
  d.reason AS reason, -- why it was refused
  NULL AS step, -- the number of the step that it is awaited for, if it is for a step
  NULL AS line -- where the flow awaits it
FROM inbox i
JOIN stream s ON s.id = i.stream
LEFT JOIN dead_letter d ON d.inbox = i.id
UNION ALL
-- Signals and waits of a name meet in their order, as they do in the flow. What a flow passes over there, since
-- it does not fit (it came before anybody could tell), counts as met.
SELECT v.flow_id, v.name, 'awaited', NULL, strftime('%Y-%m-%dT%H:%M:%fZ', v.at / 1000 / 1e3, 'unixepoch'),
  NULL, NULL, v.step, v.line
FROM (
  SELECT flow_id, state, at, event, name, step, line,
    count(*) FILTER (WHERE event = 'signal_received') OVER (PARTITION BY flow_id, name) AS received,
    count(*) FILTER (WHERE event = 'signal_awaited')
      OVER (PARTITION BY flow_id, name ORDER BY version) AS place
  FROM (
    -- See the view `events` for what repairs make void.
    SELECT flow_id, state, version, at, event,
      body ->> '$.name' AS name, body ->> '$.step' AS step, body ->> '$.line' AS line,
      min(CASE event WHEN 'repaired' THEN body ->> '$.since' END) OVER later AS since
    FROM (
      SELECT s.name AS flow_id, s.state, r.version, r.at, k.word AS event,
        CASE WHEN typeof(r.data) = 'text' AND json_valid(r.data) THEN r.data END AS body
      FROM stream s
      JOIN word w ON w.id = s.status AND w.word <> 'actor'
      JOIN record r ON r.stream = s.id
      JOIN word k ON k.id = r.kind AND k.word IN ('signal_awaited', 'signal_received', 'repaired')
      WHERE s.state <> 2 -- those that have ended wait for nothing
    )
    WINDOW later AS (PARTITION BY flow_id ORDER BY version DESC)
  )
  WHERE name IS NOT NULL
    AND (event = 'signal_received' OR event = 'signal_awaited' AND NOT ifnull(since <= version, 0))
) v
WHERE v.event = 'signal_awaited' AND v.place > v.received;

CREATE VIEW dead_letters AS
-- Each signal that was acknowledged and can no longer be delivered.
SELECT
  d.id AS id, -- rises in the order in which they were given up
  s.name AS flow_id,
  i.name AS name,
  i.key AS key, -- the signal's id
  strftime('%Y-%m-%dT%H:%M:%fZ', d.at / 1000 / 1e3, 'unixepoch') AS at, -- when it was given up
  strftime('%Y-%m-%dT%H:%M:%fZ', i.at / 1000 / 1e3, 'unixepoch') AS received_at, -- when it came
  d.reason AS reason,
  i.data AS payload
FROM dead_letter d
LEFT JOIN inbox i ON i.id = d.inbox
LEFT JOIN stream s ON s.id = i.stream;
