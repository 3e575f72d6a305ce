-- The first schema.

CREATE TABLE meta (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    epoch TEXT NOT NULL,              -- random; names this incarnation of the database
    revision INTEGER NOT NULL,        -- changes made to the peer table in this epoch
    generation BLOB NOT NULL,         -- the same stands in PATH.generation, see store/generation.py
    pool4 TEXT,                       -- NULL until the first `exuvia serve`
    pool6 TEXT,
    clock_hour INTEGER NOT NULL       -- latest hour since 1970 that was believed, 0 at first
) STRICT, WITHOUT ROWID;

CREATE TABLE account (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    number_hash BLOB NOT NULL UNIQUE CHECK (length(number_hash) = 32),
    state TEXT NOT NULL CHECK (state IN ('active', 'suspended')),
    expires TEXT,                     -- last day, YYYY-MM-DD, or NULL
    device_limit INTEGER NOT NULL CHECK (device_limit > 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE device (
    account_id BLOB NOT NULL REFERENCES account (id),
    id BLOB NOT NULL CHECK (length(id) = 16),
    name TEXT NOT NULL,               -- two random words, unlike those of the account's other devices
    token_hash BLOB NOT NULL CHECK (length(token_hash) = 32),
    PRIMARY KEY (account_id, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE key (
    public_key BLOB NOT NULL PRIMARY KEY CHECK (length(public_key) = 32),
    account_id BLOB NOT NULL,
    device_id BLOB NOT NULL,
    address4 BLOB NOT NULL UNIQUE CHECK (length(address4) = 4),
    address6 BLOB NOT NULL UNIQUE CHECK (length(address6) = 16),
    preshared_key BLOB NOT NULL CHECK (length(preshared_key) = 32),
    standing TEXT NOT NULL CHECK (standing IN ('current', 'next', 'old', 'retired')),
    due_hour INTEGER                  -- by when it must be confirmed or retired, or NULL
        CHECK ((due_hour IS NOT NULL) = (standing IN ('next', 'old'))),
    FOREIGN KEY (account_id, device_id) REFERENCES device (account_id, id)
) STRICT, WITHOUT ROWID;

-- A device has at most a current key and one beside it; retired ones are no longer its own.
CREATE UNIQUE INDEX key_of_device ON key (
    account_id, device_id, CASE standing WHEN 'current' THEN 1 WHEN 'retired' THEN public_key ELSE 2 END
);

CREATE INDEX key_to_remove ON key (standing) WHERE standing = 'retired';

CREATE INDEX key_due ON key (due_hour) WHERE due_hour IS NOT NULL;

CREATE TABLE resting (
    address BLOB NOT NULL PRIMARY KEY CHECK (length(address) IN (4, 16)),
    hour INTEGER NOT NULL             -- since 1970, when it was given back
) STRICT, WITHOUT ROWID;

CREATE TABLE change (
    revision INTEGER NOT NULL PRIMARY KEY,
    public_key BLOB NOT NULL CHECK (length(public_key) = 32)
) STRICT, WITHOUT ROWID;

CREATE TABLE gateway (
    name TEXT NOT NULL PRIMARY KEY,
    token_hash BLOB NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    endpoint TEXT NOT NULL,
    country TEXT,
    city TEXT,
    dns TEXT,
    public_key BLOB UNIQUE CHECK (length(public_key) = 32),  -- NULL until it first connects
    lasting INTEGER NOT NULL CHECK (lasting IN (0, 1)),      -- whether that key survives a restart
    ahead INTEGER NOT NULL CHECK (ahead IN (0, 1))           -- was at a revision that this database never had
) STRICT, WITHOUT ROWID;
