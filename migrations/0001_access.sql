-- Who may do what. One installation owns one database.

create table installation (
    -- prefixes every Redis key and marks the upload volume, so that two installations can never mix
    id         uuid not null default gen_random_uuid(),
    created_at timestamptz not null default clock_timestamp(),
    -- exactly one row
    only_row   boolean not null default true,
    constraint installation_pkey primary key (only_row),
    constraint installation_single check (only_row)
);

insert into installation default values;

create table tenant (
    id          uuid not null,
    name        text not null,
    -- names of media roots its jobs may read; '*' stands for every configured root
    media_roots text[] not null default '{}',
    -- most jobs it may have running at once; null: no limit of its own
    max_running integer,
    created_at  timestamptz not null default clock_timestamp(),
    constraint tenant_pkey primary key (id),
    constraint tenant_name_unique unique (name),
    constraint tenant_name_length check (char_length(name) between 1 and 100),
    constraint tenant_max_running_positive check (max_running > 0)
);

create table api_key (
    id         uuid not null,
    tenant_id  uuid not null,
    -- the part of the key that may be shown and logged; finds the row
    public_id  text not null,
    -- HMAC-SHA256 of the whole key under API_KEY_PEPPER: a stolen table opens nothing
    digest     bytea not null,
    name       text not null,
    role       text not null,
    -- may manage tenants, queues and workers of the whole installation
    platform   boolean not null default false,
    created_at timestamptz not null default clock_timestamp(),
    revoked_at timestamptz,
    constraint api_key_pkey primary key (id),
    constraint api_key_tenant foreign key (tenant_id) references tenant (id) on delete cascade,
    constraint api_key_public_id_unique unique (public_id),
    constraint api_key_role_known check (role in ('viewer', 'submitter', 'admin')),
    constraint api_key_digest_length check (octet_length(digest) = 32)
);

create index api_key_by_tenant on api_key (tenant_id);
