-- Uploads that come in pieces (tus 1.0.0), survive what breaks, and are remembered for a while when they are gone.

alter table upload
    -- what was announced; null: not said yet. Of an upload made from parts: their sum
    add column length_bytes    bigint,
    -- durable bytes: never ahead of what the storage holds
    add column received_bytes  bigint not null default 0,
    -- Upload-Metadata as it came, given back as it is
    add column sent_metadata   text,
    -- a digest of the whole is wanted; what it must be; what it is
    add column hash_wanted     boolean not null default false,
    add column sha256_expected bytea,
    add column sha256          bytea,
    -- what it is to others: null, 'partial' or 'final'; the header as it came; of which parts
    add column concat          text,
    add column concat_sent     text,
    add column parts           uuid[] not null default '{}',
    -- the profile of the job to be made when the last byte is durable, and that job; it may be erased before the upload
    add column probe           text,
    add column job_id          uuid,
    -- an unfinished upload is given up then; every byte moves it. null: by age
    add column expires_at      timestamptz,
    -- when its bytes were erased: the row stays for some days to say so
    add column gone_at         timestamptz,
    -- the hold of one request: every move of received_bytes carries the token
    add column lock_token      uuid,
    add column lock_until      timestamptz,
    -- another request wants it: whoever holds it lets go
    add column lock_wanted     boolean not null default false;

alter table upload drop constraint upload_state_known;
alter table upload
    add constraint upload_state_known
        check (state in ('receiving', 'complete', 'expired', 'terminated', 'rejected')) not valid,
    add constraint upload_gone_has_time
        check ((state in ('expired', 'terminated', 'rejected')) = (gone_at is not null)) not valid,
    add constraint upload_received_in_length
        check (received_bytes >= 0 and (length_bytes is null or received_bytes <= length_bytes)) not valid,
    add constraint upload_concat_known check (concat in ('partial', 'final')) not valid,
    add constraint upload_parts_bounded check (cardinality(parts) <= 256) not valid,
    add constraint upload_sha256_length
        check (octet_length(sha256_expected) = 32 and octet_length(sha256) = 32) not valid,
    add constraint upload_lock_has_end check ((lock_token is null) = (lock_until is null)) not valid;
alter table upload validate constraint upload_state_known;
alter table upload validate constraint upload_gone_has_time;
alter table upload validate constraint upload_received_in_length;
alter table upload validate constraint upload_concat_known;
alter table upload validate constraint upload_parts_bounded;
alter table upload validate constraint upload_sha256_length;
alter table upload validate constraint upload_lock_has_end;

-- most unfinished uploads and most stored bytes of a tenant; null: as the settings say
alter table tenant
    add column max_open_uploads integer,
    add column max_stored_bytes bigint,
    add constraint tenant_max_open_uploads_positive check (max_open_uploads > 0),
    add constraint tenant_max_stored_not_negative check (max_stored_bytes >= 0);
