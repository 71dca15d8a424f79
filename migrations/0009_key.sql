-- What a key may be narrowed to, how long it lasts and when it was last used; what a tenant may have at most.

alter table api_key
    -- rights it is narrowed to; null: everything its role carries
    add column scopes          text[],
    add column expires_at      timestamptz,
    -- address ranges (CIDR) it may be used from; empty: all
    add column networks        text[] not null default '{}',
    -- most requests a minute of this key alone; null: as the settings say
    add column rate_per_minute integer,
    -- the key that made this one; null: the command line of the operator
    add column created_by      uuid,
    -- the key that takes over when this one was rotated
    add column replaced_by     uuid,
    -- to the minute: a write for every request would cost more than the request
    add column last_used_at    timestamptz,
    add column last_used_from  text,
    add constraint api_key_created_by foreign key (created_by) references api_key (id) on delete set null,
    add constraint api_key_replaced_by foreign key (replaced_by) references api_key (id) on delete set null,
    add constraint api_key_rate_positive check (rate_per_minute > 0),
    add constraint api_key_networks_bounded check (cardinality(networks) <= 50),
    add constraint api_key_scopes_bounded check (cardinality(scopes) <= 50);

-- pages of the list of keys, and the foreign keys' own look-ups
create index api_key_page on api_key (tenant_id, created_at desc, id desc);
drop index api_key_by_tenant;
create index api_key_by_creator on api_key (created_by) where created_by is not null;
create index api_key_by_successor on api_key (replaced_by) where replaced_by is not null;

alter table tenant
    -- its keys open nothing while this is set
    add column suspended_at    timestamptz,
    -- most requests a minute of all its keys together, and how many at once beyond that; null: as the settings say
    add column rate_per_minute integer,
    add column rate_burst      integer,
    -- most jobs that may wait; null: as the settings say
    add column max_queued      integer,
    add constraint tenant_rate_positive check (rate_per_minute > 0 and rate_burst > 0),
    add constraint tenant_max_queued_positive check (max_queued > 0);

-- a list of tenants, the newest first
create index tenant_page on tenant (created_at desc, id desc);

-- kept its name, because the binaries of the version before go on reading it
comment on column idempotency.job_id is 'what was made: a job, a key or a tenant';
