-- What happened, for those who want to be told: webhooks and open streams. A row is written in the transaction of the change
-- it tells of (an outbox) and published afterwards: given its place in the order that clients see.

create table event (
    -- the order of writing; transactions commit in another one, so nobody reads by it
    number      bigint generated always as identity,
    -- what receivers know it by: the same over all tries
    id          uuid not null default gen_random_uuid(),
    -- no foreign key: the job's has it, and each would be looked up for every event
    tenant_id   uuid not null,
    type        text not null,
    -- the job it is about; one that is erased takes its events along
    job_id      uuid,
    -- of a job: what the change was (the rest of the job does not change). Of anything else: what is shown of it
    data        jsonb not null,
    occurred_at timestamptz not null default clock_timestamp(),
    -- its place in the order that clients see, without gaps; null: not published yet
    sequence    bigint,
    constraint event_pkey primary key (number),
    constraint event_job foreign key (job_id) references job (id) on delete cascade,
    constraint event_sequence_unique unique (sequence),
    constraint event_type_known check (type in ('job.queued', 'job.started', 'job.progress', 'job.succeeded', 'job.failed',
        'job.canceled', 'upload.completed', 'batch.completed', 'webhook.disabled', 'ping')),
    constraint event_job_is_named check ((type like 'job.%') = (job_id is not null))
);

-- what is to be published; its size is what the publisher has not seen yet
create index event_new on event (number) where sequence is null;
-- a tenant's stream
create index event_by_tenant on event (tenant_id, sequence) where sequence is not null;
-- a job's stream, and the events that go with an erased job
create index event_by_job on event (job_id, sequence) where job_id is not null;

-- the last place that was given. Its row is the lock of the publisher: whoever holds it publishes, the others need not
-- wait. A sequence of PostgreSQL would not do: places must become visible in their order, and never come back after a
-- roll-back or a restored dump
create table event_counter (
    one  boolean not null default true,
    last bigint not null default 0,
    constraint event_counter_pkey primary key (one),
    constraint event_counter_only_one check (one)
);

insert into event_counter default values;

-- Triggers, and not each statement of the lifecycle for itself: a change of state that tells nobody is impossible, and an
-- event costs no way of its own. Nothing else is decided in here.
create function job_event() returns trigger language plpgsql as $$
begin
    insert into event (tenant_id, type, job_id, data)
    values (
        new.tenant_id,
        case
            when tg_op = 'UPDATE' and old.state = new.state then 'job.progress'
            when new.state = 'running' then 'job.started'
            else 'job.' || new.state
        end,
        new.id,
        jsonb_build_object('state', new.state, 'attempt', new.attempt, 'max_attempts', new.max_attempts,
            'started_at', new.started_at, 'finished_at', new.finished_at, 'failure', new.failure, 'progress', new.progress)
    );
    return null;
end
$$;

create trigger job_began after insert on job for each row execute function job_event();
create trigger job_moved after update of state, progress on job for each row
    when (old.state <> new.state
        or (new.state = 'running' and new.progress is not null and old.progress is distinct from new.progress))
    execute function job_event();

create function upload_event() returns trigger language plpgsql as $$
begin
    insert into event (tenant_id, type, data)
    values (
        new.tenant_id,
        'upload.completed',
        jsonb_build_object('upload', jsonb_build_object('id', new.id, 'filename', new.filename,
            'content_type', new.content_type, 'size_bytes', new.size_bytes, 'sha256', encode(new.sha256, 'hex'),
            'created_at', new.created_at, 'completed_at', new.completed_at))
    );
    return null;
end
$$;

-- a part is nobody's file
create trigger upload_moved after update of state on upload for each row
    when (old.state <> 'complete' and new.state = 'complete' and new.concat is distinct from 'partial')
    execute function upload_event();
