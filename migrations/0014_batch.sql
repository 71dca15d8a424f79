-- Jobs that were handed in together: one acceptance, one count, one end.

create table batch (
    id           uuid not null,
    tenant_id    uuid not null,
    external_id  text,
    metadata     jsonb not null default '{}',
    -- jobs that were handed in; some may have been erased since
    total        integer not null,
    -- where its end is told: whose circuit and turns that shares, the whole URL, and what is given back with it
    webhook_id       uuid,
    webhook_sealed   bytea,
    webhook_metadata jsonb,
    created_at   timestamptz not null default clock_timestamp(),
    -- when its last job ended; null while one is queued or runs
    completed_at timestamptz,
    -- how its jobs stood at that moment: a list of batches need not count what does not change any more
    succeeded    integer,
    failed       integer,
    canceled     integer,
    constraint batch_pkey primary key (id),
    constraint batch_tenant foreign key (tenant_id) references tenant (id) on delete cascade,
    constraint batch_webhook foreign key (webhook_id) references webhook (id),
    constraint batch_webhook_is_sealed check ((webhook_id is null) = (webhook_sealed is null)),
    constraint batch_external_id_unique unique (tenant_id, external_id),
    constraint batch_total_positive check (total > 0),
    constraint batch_end_is_counted check ((completed_at is null) =
        (succeeded is null and failed is null and canceled is null))
);

-- lists: newest first, by keyset
create index batch_by_tenant on batch (tenant_id, created_at desc, id desc);
-- those whose end may have been missed, because their last job was erased
create index batch_open on batch (created_at) where completed_at is null;
-- whether a target is named by one
create index batch_by_target on batch (webhook_id) where webhook_id is not null;
-- those old enough to be forgotten
create index batch_completed on batch (completed_at) where completed_at is not null;

alter table job
    add column batch_id     uuid,
    -- its place in the batch, from 1
    add column batch_number integer,
    add constraint job_batch foreign key (batch_id) references batch (id) not valid,
    add constraint job_batch_numbered check ((batch_id is null) = (batch_number is null)) not valid;
alter table job validate constraint job_batch;
alter table job validate constraint job_batch_numbered;
