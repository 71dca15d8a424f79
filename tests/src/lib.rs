//! The harness: real servers, real processes, real HTTP. One private PostgreSQL and Redis serve the whole run (the same
//! code as `probectl up`); every test gets a database cloned from a migrated template, its own Redis prefix and volume,
//! and starts the API and worker binaries it needs.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests print what they measure, and read the environment they run in"
)]

pub mod authority;
pub mod big;
pub mod binaries;
pub mod bombs;
pub mod containers;
pub mod cost;
pub mod exploits;
pub mod exports;
pub mod http;
pub mod installation;
pub mod line;
pub mod listener;
pub mod origin;
pub mod process;
pub mod raw;
pub mod receiver;
pub mod remote_servers;
pub mod s3;
pub mod samples;
pub mod servers;
pub mod slow;
pub mod sse;
pub mod tls;

pub use http::{Answer, Http};
pub use installation::{Installation, JWT_SECRET};
pub use process::Program;
