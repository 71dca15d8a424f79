-- Sessions: what API keys were exchanged for. A session is a family of tokens; to end it is to delete its row, and with it
-- whatever could still open something. Nothing here opens anything by itself.

create table session (
    id          uuid not null,
    tenant_id   uuid not null,
    api_key_id  uuid not null,
    -- rights it is narrowed to; null: everything its key has
    scopes      text[],
    created_at  timestamptz not null default clock_timestamp(),
    -- however often it is refreshed, it ends then
    expires_at  timestamptz not null,
    -- how often a refresh token was turned into the next one; the token with this number is the one that is not spent
    rotation    integer not null default 0,
    -- when that was last done, and from where. For a few seconds afterwards the spent token gives the same successor
    rotated_at  timestamptz not null default clock_timestamp(),
    last_used_from text not null,
    constraint session_pkey primary key (id),
    constraint session_tenant foreign key (tenant_id) references tenant (id) on delete cascade,
    constraint session_key foreign key (api_key_id) references api_key (id) on delete cascade,
    constraint session_scopes_bounded check (cardinality(scopes) <= 50),
    constraint session_rotation_positive check (rotation >= 0)
);

-- pages of a tenant's sessions and of a key's; finding those that a key has too many of
create index session_page on session (tenant_id, id desc);
create index session_of_key on session (api_key_id, id desc);
-- upkeep
create index session_by_end on session (expires_at);

-- Spent tokens are kept as well: one that is shown again was stolen, or its successor was.
create table refresh_token (
    -- HMAC-SHA256 of the whole token under API_KEY_PEPPER
    digest     bytea not null,
    session_id uuid not null,
    rotation   integer not null,
    expires_at timestamptz not null,
    constraint refresh_token_pkey primary key (digest),
    constraint refresh_token_session foreign key (session_id) references session (id) on delete cascade,
    constraint refresh_token_rotation_unique unique (session_id, rotation),
    constraint refresh_token_digest_length check (octet_length(digest) = 32)
);

-- upkeep
create index refresh_token_by_end on refresh_token (expires_at);
