-- The job, its attempts and its result. Only the lifecycle module writes job.state.

-- scans read whole files and may take an hour; they must never be in the way of quick looks
create table lane (
    name          text not null,
    paused        boolean not null default false,
    paused_reason text,
    -- when it resumes by itself; null: when somebody resumes it
    paused_until  timestamptz,
    constraint lane_pkey primary key (name),
    constraint lane_known check (name in ('fast', 'scan')),
    constraint lane_pause_complete check (paused or (paused_reason is null and paused_until is null))
);

insert into lane (name) values ('fast'), ('scan');

-- when a tenant was last given a turn: whoever waited longest goes first
create table turn (
    lane      text not null,
    tenant_id uuid not null,
    served_at timestamptz not null,
    constraint turn_pkey primary key (lane, tenant_id),
    constraint turn_lane foreign key (lane) references lane (name),
    constraint turn_tenant foreign key (tenant_id) references tenant (id) on delete cascade
);

create table worker (
    -- a new one for every start of a process
    id              uuid not null,
    name            text not null,
    version         text not null,
    ffprobe_version text,
    roles           text[] not null,
    lanes           text[] not null,
    slots           integer not null,
    busy            integer not null default 0,
    -- media roots it has mounted; 'upload' volume seen or not
    media_roots     text[] not null,
    has_uploads     boolean not null,
    -- what the sandbox canary saw, by protection
    protections     jsonb not null default '{}',
    draining        boolean not null default false,
    started_at      timestamptz not null default clock_timestamp(),
    beat_at         timestamptz not null default clock_timestamp(),
    constraint worker_pkey primary key (id),
    constraint worker_slots_not_negative check (slots >= 0 and busy >= 0)
);

create index worker_by_beat on worker (beat_at);

create table job (
    id               uuid not null,
    tenant_id        uuid not null,
    state            text not null default 'queued',
    profile          text not null,
    lane             text not null,
    -- 0 high, 1 normal, 2 low
    priority         smallint not null,
    -- where the bytes are: an upload, or a path as the client wrote it
    upload_id        uuid,
    path             text,
    -- for a path: media roots to look in, in order, and the path inside them. A worker without all of these roots
    -- never claims the job
    roots            text[] not null default '{}',
    path_inside      text,
    external_id      text,
    metadata         jsonb not null default '{}',
    created_at       timestamptz not null default clock_timestamp(),
    -- not before this instant; a retry's back-off moves it
    run_at           timestamptz not null default clock_timestamp(),
    -- its place among the jobs that are due: run_at plus some minutes for each step of lower priority, so that waiting
    -- makes up for priority. null until it is due, so that those who wait for their time are never waded through
    rank_at          timestamptz,
    -- nobody wants it started later than this
    expires_at       timestamptz,
    -- when its latest ticket was sent; null: none was
    dispatched_at    timestamptz,
    started_at       timestamptz,
    finished_at      timestamptz,
    -- counted when an attempt starts, so that a file that kills workers runs out of attempts too
    attempt          smallint not null default 0,
    max_attempts     smallint not null,
    -- the hold of one worker: every write of a running job carries the token
    lease_token      uuid,
    lease_until      timestamptz,
    worker_id        uuid,
    cancel_requested boolean not null default false,
    progress         jsonb,
    failure          jsonb,
    constraint job_pkey primary key (id),
    constraint job_tenant foreign key (tenant_id) references tenant (id) on delete cascade,
    constraint job_upload foreign key (upload_id) references upload (id),
    constraint job_lane foreign key (lane) references lane (name),
    constraint job_external_id_unique unique (tenant_id, external_id),
    constraint job_state_known check (state in ('queued', 'running', 'succeeded', 'failed', 'canceled')),
    constraint job_profile_known check (profile in ('standard')),
    constraint job_priority_known check (priority between 0 and 2),
    constraint job_one_source check ((upload_id is null) <> (path is null)),
    constraint job_path_has_roots check ((path is null) = (roots = '{}') and (path is null) = (path_inside is null)),
    constraint job_running_has_lease
        check ((state = 'running') = (lease_token is not null and lease_until is not null and worker_id is not null)),
    constraint job_end_has_time check ((state in ('succeeded', 'failed', 'canceled')) = (finished_at is not null)),
    constraint job_failed_has_failure check (state <> 'failed' or failure is not null),
    constraint job_attempts_bounded check (attempt between 0 and max_attempts)
);

-- lists: newest first, by keyset
create index job_by_tenant on job (tenant_id, created_at desc, id desc);
create index job_by_tenant_state on job (tenant_id, state, created_at desc, id desc);
create index job_by_upload on job (upload_id) where upload_id is not null;
-- the relay's order, tenant by tenant; waiting rows only, so its size is the backlog's
create index job_ready on job (lane, tenant_id, rank_at, id) where state = 'queued' and rank_at is not null;
-- how long the longest-waiting of them has been due
create index job_due on job (run_at) where state = 'queued' and rank_at is not null;
-- jobs that wait for their time
create index job_later on job (run_at) where state = 'queued' and rank_at is null;
-- jobs that nobody may want any more
create index job_expiring on job (expires_at) where state = 'queued' and expires_at is not null;
-- rows whose ticket may have been lost
create index job_dispatched on job (dispatched_at) where state = 'queued' and dispatched_at is not null;
-- leases that ran out
create index job_lease on job (lease_until) where state = 'running';
-- how many a tenant has running
create index job_running on job (tenant_id) where state = 'running';
-- jobs old enough to be forgotten
create index job_finished on job (finished_at) where finished_at is not null;

create table attempt (
    job_id      uuid not null,
    number      smallint not null,
    worker_id   uuid not null,
    worker_name text not null,
    started_at  timestamptz not null default clock_timestamp(),
    -- null while it runs
    ended_at    timestamptz,
    outcome     text,
    failure     jsonb,
    stderr_tail text,
    constraint attempt_pkey primary key (job_id, number),
    constraint attempt_job foreign key (job_id) references job (id) on delete cascade,
    constraint attempt_outcome_known check (outcome in ('succeeded', 'failed', 'lost', 'released', 'canceled')),
    constraint attempt_ended check ((ended_at is null) = (outcome is null))
);

create table result (
    job_id     uuid not null,
    media      jsonb not null,
    -- ffprobe's own words, compressed by TOAST; text, because jsonb would reorder keys and refuse \u0000
    ffprobe    text not null,
    provenance jsonb not null,
    warnings   text[] not null default '{}',
    -- a limit bit, so something may be missing
    degraded   boolean not null default false,
    created_at timestamptz not null default clock_timestamp(),
    constraint result_pkey primary key (job_id),
    constraint result_job foreign key (job_id) references job (id) on delete cascade
);
