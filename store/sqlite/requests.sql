-- What processes that do not own a store of Persistasaurus have asked of its owner, version 1.
--
-- A row without a response waits. `number` rises in the order in which requests were left, and no number is
-- used twice. `refusal` says why a request can never be done, to those who look after the store. The row goes
-- when its sender has fetched the response.
--
-- Instants are microseconds since the epoch, UTC.

CREATE TABLE request (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  at INTEGER NOT NULL,
  data BLOB NOT NULL,
  response BLOB,
  responded_at INTEGER,
  refusal TEXT
) STRICT;

CREATE INDEX request_waiting ON request (number) WHERE response IS NULL;
