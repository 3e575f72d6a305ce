-- What an account asks for beside its number.

CREATE TABLE second_factor (
    account_id BLOB NOT NULL REFERENCES account (id),
    id BLOB NOT NULL CHECK (length(id) = 16),
    kind TEXT NOT NULL CHECK (kind IN ('code', 'passkey')),
    sealed BLOB NOT NULL,             -- what checks it; only whoever has PATH.key can open it
    PRIMARY KEY (account_id, id)
) STRICT, WITHOUT ROWID;
