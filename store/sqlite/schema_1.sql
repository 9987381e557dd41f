-- A store of Persistasaurus, version 1.
--
-- What happened is in `record`; `stream` says how each stream stands. To read a flow by hand:
--
--   SELECT r.version, datetime(r.at / 1000000, 'unixepoch') AS at, k.word AS kind, r.data
--   FROM record r JOIN stream s ON s.id = r.stream JOIN word k ON k.id = r.kind
--   WHERE s.name = 'signup-ada' ORDER BY r.version;
--
-- Instants are microseconds since the epoch, UTC. `data` is TEXT where it is UTF-8, else BLOB.

-- One row. `epoch` is advanced by each open; the others are high-water marks: no number is used twice,
-- also when the rows that had it are gone.
CREATE TABLE owner (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  epoch INTEGER NOT NULL,
  position INTEGER NOT NULL,
  stream INTEGER NOT NULL,
  inbox INTEGER NOT NULL
) STRICT;

INSERT INTO owner VALUES (1, 0, 0, 0, 0);

-- Kinds of records, types and statuses of streams.
CREATE TABLE word (
  id INTEGER PRIMARY KEY,
  word TEXT NOT NULL UNIQUE
) STRICT;

-- `alarm` is what the stream asked for; `wake_at` is earlier when a signal waits for it.
-- `version` is the one at which this row was written; later records do not touch it.
CREATE TABLE stream (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  type INTEGER NOT NULL,
  status INTEGER NOT NULL,
  state INTEGER NOT NULL,
  alarm INTEGER,
  wake_at INTEGER,
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  seal INTEGER NOT NULL
) STRICT;

CREATE INDEX stream_due ON stream (wake_at) WHERE wake_at IS NOT NULL;

-- `chain` is over the chain before it and all of this record.
CREATE TABLE record (
  position INTEGER PRIMARY KEY,
  stream INTEGER NOT NULL,
  version INTEGER NOT NULL,
  at INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  chain BLOB NOT NULL,
  data ANY NOT NULL,
  UNIQUE (stream, version)
) STRICT;

-- Signals. `settled` is the version of the stream that consumed or rejected the signal; the row stays,
-- so that the same key again gets the same answer.
CREATE TABLE inbox (
  id INTEGER PRIMARY KEY,
  stream INTEGER NOT NULL,
  name TEXT NOT NULL,
  key TEXT NOT NULL,
  at INTEGER NOT NULL,
  settled INTEGER,
  seal INTEGER NOT NULL,
  data ANY NOT NULL,
  UNIQUE (stream, key)
) STRICT;

CREATE INDEX inbox_waiting ON inbox (stream) WHERE settled IS NULL;

-- Signals that were acknowledged and can no longer be delivered.
CREATE TABLE dead_letter (
  id INTEGER PRIMARY KEY,
  inbox INTEGER NOT NULL UNIQUE,
  at INTEGER NOT NULL,
  reason TEXT NOT NULL,
  seal INTEGER NOT NULL
) STRICT;
