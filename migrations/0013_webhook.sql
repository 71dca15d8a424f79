-- Webhooks: who wants to be told of events, with which secret it is signed, and what became of each delivery.

create table webhook (
    id              uuid not null,
    tenant_id       uuid not null,
    -- 'endpoint': made by a client. 'job': the origin that single jobs of the tenant name; each of these brings its own URL
    kind            text not null,
    -- as it is shown: without user, password and query
    url             text not null,
    -- the whole URL of an endpoint
    sealed          bytea,
    description     text,
    events          text[] not null default '{}',
    -- when it was made to get nothing any more, and why
    disabled_at     timestamptz,
    disabled_reason text,
    -- the first failure since something succeeded
    failing_since   timestamptz,
    -- failures since something succeeded; after some the circuit opens: nothing is tried before open_until, then one at a time
    failures        integer not null default 0,
    open_until      timestamptz,
    created_at      timestamptz not null default clock_timestamp(),
    updated_at      timestamptz not null default clock_timestamp(),
    -- nobody sees it any more; upkeep erases it piece by piece, because it may have a million deliveries
    deleted_at      timestamptz,
    constraint webhook_pkey primary key (id),
    constraint webhook_tenant foreign key (tenant_id) references tenant (id) on delete cascade,
    constraint webhook_kind_known check (kind in ('endpoint', 'job')),
    constraint webhook_url_is_sealed check ((kind = 'endpoint') = (sealed is not null)),
    constraint webhook_events_bounded check (cardinality(events) <= 20),
    constraint webhook_disabled_for_a_reason check ((disabled_at is null) = (disabled_reason is null)),
    constraint webhook_reason_known check (disabled_reason in ('by_hand', 'gone', 'failing')),
    constraint webhook_failures_not_negative check (failures >= 0)
);

-- a tenant's list, the newest first, and who is told of an event
create index webhook_page on webhook (tenant_id, kind, created_at desc, id desc) where deleted_at is null;
-- the target of jobs
create unique index webhook_origin_unique on webhook (tenant_id, url) where kind = 'job' and deleted_at is null;
-- those whose deliveries are canceled, or erased
create index webhook_disabled on webhook (id) where disabled_at is not null;
create index webhook_deleted on webhook (id) where deleted_at is not null;
-- targets of jobs that nobody names any more
create index webhook_idle on webhook (updated_at) where kind = 'job';
-- how many circuits are open
create index webhook_open on webhook (open_until) where open_until is not null;

create table webhook_secret (
    number     bigint generated always as identity,
    tenant_id  uuid not null,
    -- null: the tenant's default, for the webhooks of single jobs
    webhook_id uuid,
    sealed     bytea not null,
    created_at timestamptz not null default clock_timestamp(),
    -- null: the one in force. One that was rotated signs along until then
    until      timestamptz,
    constraint webhook_secret_pkey primary key (number),
    constraint webhook_secret_tenant foreign key (tenant_id) references tenant (id) on delete cascade,
    constraint webhook_secret_webhook foreign key (webhook_id) references webhook (id) on delete cascade
);

create unique index webhook_secret_one on webhook_secret (webhook_id) where until is null and webhook_id is not null;
create unique index webhook_secret_one_default on webhook_secret (tenant_id) where until is null and webhook_id is null;
-- all that sign
create index webhook_secret_of on webhook_secret (tenant_id, webhook_id, number desc);
-- the foreign key's own look-up
create index webhook_secret_of_webhook on webhook_secret (webhook_id) where webhook_id is not null;

-- what a single job wants to be told by
create table job_webhook (
    job_id     uuid not null,
    -- whose circuit and turns it shares
    webhook_id uuid not null,
    -- the whole URL
    sealed     bytea not null,
    -- given back with each event
    metadata   jsonb,
    constraint job_webhook_pkey primary key (job_id),
    constraint job_webhook_job foreign key (job_id) references job (id) on delete cascade,
    constraint job_webhook_webhook foreign key (webhook_id) references webhook (id) on delete cascade
);

create index job_webhook_by_target on job_webhook (webhook_id);

create table delivery (
    id              uuid not null default gen_random_uuid(),
    event_number    bigint not null,
    webhook_id      uuid not null,
    state           text not null default 'pending',
    -- all attempts, counted when they begin; and those since the delivery was last begun, which decide the next wait
    attempts        integer not null default 0,
    tries           smallint not null default 0,
    -- not before this instant
    next_at         timestamptz not null default clock_timestamp(),
    -- the hold of one deliverer
    lease_token     uuid,
    lease_until     timestamptz,
    -- how the latest attempt ended
    last_status     smallint,
    last_error      text,
    last_latency_ms integer,
    created_at      timestamptz not null default clock_timestamp(),
    ended_at        timestamptz,
    constraint delivery_pkey primary key (id),
    constraint delivery_once unique (event_number, webhook_id),
    constraint delivery_event foreign key (event_number) references event (number) on delete cascade,
    constraint delivery_webhook foreign key (webhook_id) references webhook (id) on delete cascade,
    constraint delivery_state_known check (state in ('pending', 'sending', 'succeeded', 'failed', 'canceled')),
    constraint delivery_sending_has_lease
        check ((state = 'sending') = (lease_token is not null and lease_until is not null)),
    constraint delivery_end_has_time check ((state in ('succeeded', 'failed', 'canceled')) = (ended_at is not null)),
    constraint delivery_counts_not_negative check (attempts >= 0 and tries >= 0)
);

-- what is due, target by target: one with much to send, or one that is broken, costs one look and not one for each delivery
create index delivery_due on delivery (webhook_id, next_at) where state = 'pending';
-- how many are on their way to a target, and whose hold ran out
create index delivery_sending on delivery (webhook_id) where state = 'sending';
create index delivery_lease on delivery (lease_until) where state = 'sending';
-- lists, the newest first
create index delivery_page on delivery (webhook_id, created_at desc, id desc);
create index delivery_page_of_state on delivery (webhook_id, state, created_at desc, id desc);

create table delivery_attempt (
    delivery_id uuid not null,
    number      integer not null,
    at          timestamptz not null,
    -- what the endpoint answered, if it did
    status      smallint,
    -- why it was no success, for people
    error       text,
    latency_ms  integer,
    -- the beginning of the answer's body
    response    text,
    constraint delivery_attempt_pkey primary key (delivery_id, number),
    constraint delivery_attempt_delivery foreign key (delivery_id) references delivery (id) on delete cascade,
    constraint delivery_attempt_response_bounded check (octet_length(response) <= 16384)
);

-- replaying a range of time
create index event_by_time on event (tenant_id, occurred_at);
