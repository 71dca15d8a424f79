//! End-to-end tests. Modules mirror the URLs and the promises; the harness is the library of this package.

mod cli;
mod health;
mod inputs;
mod jobs;
mod lifecycle;
mod media;
mod openapi;
mod probe;
mod recovery;
mod settings;
mod tidy;
mod up;
mod uploads;
