-- Version 1. Paths are segments joined by '/', the root is ''. Documents are CBOR; an empty one is NULL.

CREATE TABLE resource (
    path        TEXT PRIMARY KEY NOT NULL,
    type        TEXT NOT NULL,
    attributes  BLOB,
    content     BLOB,
    media_type  TEXT,
    created_ms  INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    seal        INTEGER NOT NULL  -- CRC-32 over the rest of the row: the disk is not trusted
);

-- What is outside the ETag: lastSeen and its like.
CREATE TABLE volatile (
    path TEXT PRIMARY KEY NOT NULL,
    body BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE journal (
    id   INTEGER PRIMARY KEY,
    name TEXT UNIQUE NOT NULL
);

CREATE TABLE entry (
    journal INTEGER NOT NULL,
    number  INTEGER NOT NULL,
    at_ms   INTEGER NOT NULL,
    body    BLOB NOT NULL,
    PRIMARY KEY (journal, number)
) WITHOUT ROWID;

-- Journals whose resource went: entries up to the number are gone for readers, and are removed little by little.
CREATE TABLE dropped (
    journal INTEGER NOT NULL,
    upto    INTEGER NOT NULL,
    PRIMARY KEY (journal, upto)
) WITHOUT ROWID;

-- One row. resources: how many rows the resource table must have. wal_starts: how often the write-ahead log began anew.
CREATE TABLE state (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    last_number INTEGER NOT NULL,
    resources   INTEGER NOT NULL,
    wal_starts  INTEGER NOT NULL
);

INSERT INTO state VALUES (1, 0, 0, 0);
