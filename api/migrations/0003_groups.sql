-- Groups: who may do what. The channel and its messages are the core's.

CREATE TABLE groups (
    id BIGINT PRIMARY KEY,
    channel TEXT NOT NULL DEFAULT '',           -- '' until the core has made it
    title TEXT NOT NULL,
    core_owner BIGINT NOT NULL,                 -- as whom members are added and removed there
    revision BIGINT NOT NULL DEFAULT 0,         -- counts what the outbox has for this group
    created_at BIGINT NOT NULL
);

CREATE INDEX groups_channel ON groups (channel);

CREATE TABLE group_members (
    group_id BIGINT NOT NULL REFERENCES groups (id),
    user_id BIGINT NOT NULL REFERENCES users (id),
    role TEXT NOT NULL,                         -- owner, admin, member
    place BIGINT NOT NULL,                      -- the group's revision when she came
    joined_at BIGINT NOT NULL,
    PRIMARY KEY (group_id, user_id)
);

CREATE INDEX group_members_user ON group_members (user_id, group_id);

CREATE TABLE group_bans (
    group_id BIGINT NOT NULL REFERENCES groups (id),
    user_id BIGINT NOT NULL REFERENCES users (id),
    by_id BIGINT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (group_id, user_id)
);

-- A link that lets in whoever has it. The code itself is not kept, but its hash.
CREATE TABLE invites (
    id BIGINT PRIMARY KEY,
    group_id BIGINT NOT NULL REFERENCES groups (id),
    code_hash TEXT NOT NULL UNIQUE,
    by_id BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    uses_left BIGINT NOT NULL
);

CREATE INDEX invites_group ON invites (group_id);

CREATE TABLE mutes (
    user_id BIGINT NOT NULL REFERENCES users (id),
    channel TEXT NOT NULL,
    until BIGINT NOT NULL,
    PRIMARY KEY (user_id, channel)
);
