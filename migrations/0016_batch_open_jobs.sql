-- no-transaction
-- whether a batch has a job that has not ended
create index concurrently job_open_by_batch on job (batch_id) where batch_id is not null and state in ('queued', 'running');
