-- Answers to requests that carried an Idempotency-Key, so that a client may repeat a request without doing it twice.
-- Written in the transaction that does what the request asks.

create table idempotency (
    tenant_id   uuid not null,
    -- the client's word for the request
    key         text not null,
    -- method and route
    operation   text not null,
    -- SHA-256 of the body: the same key with another body is a mistake of the client's
    fingerprint bytea not null,
    -- the job that was made
    job_id      uuid not null,
    -- the body of the answer
    answer      text not null,
    created_at  timestamptz not null default clock_timestamp(),
    constraint idempotency_pkey primary key (tenant_id, key),
    constraint idempotency_tenant foreign key (tenant_id) references tenant (id) on delete cascade,
    constraint idempotency_key_length check (char_length(key) between 1 and 255),
    constraint idempotency_fingerprint_length check (octet_length(fingerprint) = 32)
);

create index idempotency_by_age on idempotency (created_at);
