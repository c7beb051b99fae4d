-- Read by SQLite and by PostgreSQL: BIGINT, TEXT and BLOB (a domain over BYTEA on PostgreSQL) are
-- all the types there are. Times are milliseconds since 1970; 0 and '' stand for "none".

CREATE TABLE users (
    id BIGINT PRIMARY KEY,
    handle TEXT UNIQUE,                         -- NULL once the account is deleted
    password TEXT NOT NULL,                     -- a PHC string of argon2id
    display_name TEXT NOT NULL,
    about TEXT NOT NULL DEFAULT '',
    settings TEXT NOT NULL DEFAULT '{}',        -- JSON of the client's own
    avatar_tag TEXT NOT NULL DEFAULT '',        -- names its bytes; '' without one
    devices_made BIGINT NOT NULL DEFAULT 0,     -- the highest device number there ever was
    revision BIGINT NOT NULL DEFAULT 0,         -- counts what the outbox has for this user
    created_at BIGINT NOT NULL,
    deleted_at BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE devices (
    user_id BIGINT NOT NULL REFERENCES users (id),
    id BIGINT NOT NULL,
    name TEXT NOT NULL,
    address TEXT NOT NULL,                      -- of the last login or refresh
    generation BIGINT NOT NULL DEFAULT 0,       -- of the refresh token that is good
    refreshed_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at BIGINT NOT NULL DEFAULT 0,
    push TEXT NOT NULL DEFAULT '',              -- JSON of the push registration
    PRIMARY KEY (user_id, id)
);

-- Security events, for the user and for those who run the server.
CREATE TABLE audit (
    user_id BIGINT NOT NULL,
    at BIGINT NOT NULL,
    id BIGINT NOT NULL,                         -- random: tells events of one moment apart
    event TEXT NOT NULL,
    device_id BIGINT NOT NULL,
    address TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (user_id, at, id)
);

CREATE INDEX audit_at ON audit (at);

-- What the core has still to be told. Written in the transaction that decided it; done in the order
-- of `place` within a subject; told as often as it takes, which the nonce makes harmless.
CREATE TABLE outbox (
    subject TEXT NOT NULL,                      -- "user 7", "group 9": what must keep its order
    place BIGINT NOT NULL,                      -- the subject's revision
    nonce BIGINT NOT NULL,
    errand TEXT NOT NULL,                       -- JSON
    created_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    due_at BIGINT NOT NULL,                     -- when it may be tried (again)
    taken_until BIGINT NOT NULL DEFAULT 0,      -- a process works on it
    PRIMARY KEY (subject, place)
);

CREATE INDEX outbox_due ON outbox (due_at);
