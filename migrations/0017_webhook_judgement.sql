-- What it takes to judge an endpoint fairly. Old binaries leave all of it as it is.

alter table webhook
    -- grows whenever the address changes or the endpoint is enabled: what an older one answered says nothing about it
    add column generation  integer not null default 0,
    -- the latest failure: failures that lie days apart are not days of failure
    add column failed_at   timestamptz,
    -- how long the endpoint itself asked to be left alone, which holds whatever others of its deliveries come to
    add column asked_until timestamptz;
