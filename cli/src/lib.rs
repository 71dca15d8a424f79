//! `probectl` as a library: the command line of FFprobe API, the private servers of `up` (also used by the tests), and
//! the HTTP client.

pub mod client;
pub mod commands;
pub mod events;
pub mod output;
mod patience;
pub mod private;
pub mod process;
pub mod session;
pub mod terminal;
pub mod up;
pub mod upload;
