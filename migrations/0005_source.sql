-- Sources beyond uploads and paths, profiles beyond `standard`, and what a job may take.

alter table job
    -- a URL as it may be shown: without user, password and query
    add column url        text,
    -- the whole URL and its request headers, encrypted; only a worker opens it
    add column sealed     bytea,
    -- an object in a store that the operator set up; a worker without the profile never claims the job
    add column s3_profile text,
    add column s3_bucket  text,
    add column s3_key     text,
    -- kinds of input it accepts, its budget, which frames it samples
    add column options    jsonb not null default '{}';

alter table job drop constraint job_one_source, drop constraint job_profile_known;
alter table job
    add constraint job_one_source check (num_nonnulls(upload_id, path, url, s3_profile) = 1) not valid,
    add constraint job_profile_known check (profile in ('quick', 'standard', 'packets', 'frames')) not valid,
    add constraint job_url_is_sealed check ((url is null) = (sealed is null)) not valid,
    add constraint job_s3_complete check (num_nonnulls(s3_profile, s3_bucket, s3_key) in (0, 3)) not valid;
alter table job validate constraint job_one_source;
alter table job validate constraint job_profile_known;
alter table job validate constraint job_url_is_sealed;
alter table job validate constraint job_s3_complete;

-- names of S3 profiles its jobs may use; '*' stands for every configured one
alter table tenant add column s3_profiles text[] not null default '{}';
-- S3 profiles it was given
alter table worker add column s3_profiles text[] not null default '{}';
