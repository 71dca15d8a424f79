-- What the scans find, and how whole a file is.

alter table result
    -- whether the file is all there, with evidence; null for results of earlier versions
    add column completeness jsonb,
    -- reasons to doubt a probe that succeeded
    add column suspicious   text[] not null default '{}',
    -- the summary of every packet, with the profile packets
    add column packets      jsonb,
    -- what was seen in the frames, with the profile frames
    add column frames       jsonb;

-- bit rate over time, one row a stream; outside the result because it may be large and is read in parts
create table series (
    job_id       uuid not null,
    stream_index integer not null,
    -- in the form of shared::packets, compressed already: storage external spares a second try
    data         bytea not null,
    constraint series_pkey primary key (job_id, stream_index),
    constraint series_job foreign key (job_id) references job (id) on delete cascade
);

alter table series alter column data set storage external;
