-- What billing has yet to be told.

CREATE TABLE billing (                 -- has its row while there is somebody to tell
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1)
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (                  -- accounts that were cancelled, and of which billing was not told yet
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),    -- of the event; random
    account_id BLOB NOT NULL CHECK (length(account_id) = 16),
    last_day INTEGER NOT NULL          -- since 1970, on which it is tried
) STRICT, WITHOUT ROWID;
