-- no-transaction
-- the jobs of a batch in their order, and how many stand where
create index concurrently job_by_batch on job (batch_id, batch_number) where batch_id is not null;
