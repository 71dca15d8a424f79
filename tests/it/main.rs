//! End-to-end tests. Modules mirror the URLs and the promises; the harness is the library of this package.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests print what they measure, and read the environment they run in"
)]

mod attacks;
mod audit;
mod batches;
mod bucket;
mod changes;
mod chaos;
mod cli;
mod clients;
mod completeness;
mod compose;
mod contract;
mod conventions;
mod corpus;
mod doctor;
mod events;
mod health;
mod hostile;
mod huge;
mod inputs;
mod jobs;
mod keys;
mod lifecycle;
mod limits;
mod media;
mod openapi;
mod origin;
mod probe;
mod recovery;
mod remote;
mod requests;
mod reuse;
mod rights;
mod scans;
mod sentinel;
mod settings;
mod streams;
mod tenants;
mod tidy;
mod tls;
mod tokens;
mod trio;
mod tus;
mod up;
mod uploads;
mod waiting;
mod webhooks;
