-- Profiles' pictures, and who knows whom.

CREATE TABLE avatars (
    user_id BIGINT PRIMARY KEY REFERENCES users (id),
    media_type TEXT NOT NULL,
    bytes BLOB NOT NULL
);

-- `user_id` has `other_id` as a friend (two rows), asks her to be one, or has blocked her.
CREATE TABLE relations (
    user_id BIGINT NOT NULL REFERENCES users (id),
    other_id BIGINT NOT NULL REFERENCES users (id),
    kind TEXT NOT NULL,                         -- friend, request, block
    at BIGINT NOT NULL,
    PRIMARY KEY (user_id, kind, other_id)
);

CREATE INDEX relations_to ON relations (other_id, kind, user_id);
