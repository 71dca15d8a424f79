-- Who did what to what, from where, and how it ended. Rows are added and never changed: the role that the application
-- connects with may insert and read them (shared/src/store/role.rs), the role that owns the schema prunes the old ones.
--
-- Not partitioned: a partition that nobody made in time would refuse the rows it is for, and its maker would need the
-- owner's rights every month. Pruning deletes in batches along audit_event_by_time, oldest first, which costs the same
-- whatever the size of the table.

create table audit_event (
    -- made by the writer, so that a batch that is written again after a lost answer leaves no row twice
    id          uuid not null,
    happened_at timestamptz not null,
    -- whose trail it belongs to; null: nobody's (credentials that opened nothing). No foreign key: the trail of a tenant
    -- outlives the tenant, and an erased one must not cascade into rows that nobody may erase
    tenant_id   uuid,
    actor_kind  text not null,
    -- public id of the key, id of the session
    actor_id    text,
    client      inet,
    request_id  text,
    -- collated like bytes, so that a prefix is a range of the index in every database
    action      text collate "C" not null,
    target_kind text,
    target_id   text,
    outcome     text not null,
    -- of the answer; null: there was none (the client went away, or nobody asked)
    status      smallint,
    -- the problem's code
    code        text,
    -- a few facts that are no secrets: never a key, a URL or a query
    detail      jsonb not null default '{}',
    constraint audit_event_pkey primary key (id),
    constraint audit_event_actor_known check (actor_kind in ('key', 'session', 'anonymous', 'system')),
    constraint audit_event_action_form check (action ~ '^[a-z_]+(\.[a-z_]+)+$' and char_length(action) <= 64),
    constraint audit_event_outcome_known check (outcome in ('success', 'denied', 'failed', 'unknown')),
    constraint audit_event_actor_length check (char_length(actor_id) <= 64),
    constraint audit_event_request_length check (char_length(request_id) <= 128),
    constraint audit_event_target_length check (char_length(target_kind) <= 64 and char_length(target_id) <= 64),
    constraint audit_event_target_whole check (target_id is null or target_kind is not null),
    constraint audit_event_detail_bounded check (octet_length(detail::text) <= 4096)
);

-- a tenant's pages, newest first
create index audit_event_by_tenant on audit_event (tenant_id, happened_at desc, id desc);
-- the platform's pages, and pruning
create index audit_event_by_time on audit_event (happened_at desc, id desc);
-- what happened to one thing, what one actor did
create index audit_event_by_target on audit_event (target_id, happened_at desc) where target_id is not null;
create index audit_event_by_actor on audit_event (actor_id, happened_at desc) where actor_id is not null;
-- rare actions among many reads
create index audit_event_by_action on audit_event (action, happened_at desc);
-- what did not go well is rare, and is what people look for
create index audit_event_refused on audit_event (happened_at desc, id desc) where outcome <> 'success';
