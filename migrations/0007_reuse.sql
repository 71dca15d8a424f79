-- Results that jobs may share: which job has, or is making, the result for the same bytes looked at in the same way.

create table reuse (
    tenant_id   uuid not null,
    -- SHA-256 over what identifies the bytes, the profile, its options and the version of ffprobe
    fingerprint bytea not null,
    -- the job that has the result, or makes it now
    job_id      uuid not null,
    constraint reuse_pkey primary key (tenant_id, fingerprint),
    constraint reuse_tenant foreign key (tenant_id) references tenant (id) on delete cascade,
    constraint reuse_job foreign key (job_id) references job (id) on delete cascade,
    constraint reuse_fingerprint_length check (octet_length(fingerprint) = 32)
);

-- a job that is erased takes its row along
create index reuse_by_job on reuse (job_id);

-- the job whose result this is a copy of; it may have been erased since
alter table result add column reused_from uuid;
-- the job whose result it waits for; it is woken when that one ends, and looks again by itself after some seconds
alter table job add column waits_for uuid;

create index job_waiting_for on job (waits_for) where state = 'queued' and waits_for is not null;
