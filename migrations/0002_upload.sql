-- Bytes a client sent. The row is the truth about who owns them; the bytes lie in the upload volume under the same id.

create table upload (
    id           uuid not null,
    tenant_id    uuid not null,
    state        text not null default 'receiving',
    filename     text not null,
    content_type text,
    -- known when the last byte is durable
    size_bytes   bigint,
    created_at   timestamptz not null default clock_timestamp(),
    completed_at timestamptz,
    constraint upload_pkey primary key (id),
    constraint upload_tenant foreign key (tenant_id) references tenant (id) on delete cascade,
    constraint upload_state_known check (state in ('receiving', 'complete')),
    constraint upload_complete_has_size check ((state = 'complete') = (size_bytes is not null and completed_at is not null)),
    constraint upload_size_not_negative check (size_bytes >= 0)
);

create index upload_by_tenant on upload (tenant_id, created_at desc, id desc);
-- complete uploads by age, for those that no job uses
create index upload_complete on upload (completed_at) where state = 'complete';
-- uploads whose request ended without a word, for the sweep
create index upload_receiving on upload (created_at) where state = 'receiving';
