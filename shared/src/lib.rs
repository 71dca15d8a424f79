//! What the API, the workers and the command line share, in four floors; a floor uses only those below it.
//!
//! ```text
//! 3  lifecycle · bootstrap · tenancy · delivery
//!                                               every change of a job's state; the first key; every change of keys and tenants;
//!                                               webhooks and what is sent to them
//! 2  store · queue · storage · egress           PostgreSQL, Redis, the upload volume, other people's servers; neighbours
//!                                               do not import each other
//! 1  job · batch · event · media · packets · frames · completeness · access · audit · upload · limit · webhook
//!                                               words and rules: no I/O, no clock, no async
//! 0  id · error · config · sealed · telemetry · healthcheck · watchdog · shutdown
//! ```

pub mod config;
pub mod error;
pub mod healthcheck;
pub mod id;
pub mod sealed;
pub mod shutdown;
pub mod telemetry;
pub mod watchdog;

pub mod access;
pub mod audit;
pub mod batch;
pub mod completeness;
pub mod event;
pub mod frames;
pub mod job;
pub mod limit;
pub mod media;
pub mod packets;
pub mod upload;
pub mod webhook;

pub mod egress;
pub mod queue;
pub mod storage;
pub mod store;

pub mod bootstrap;
pub mod delivery;
pub mod lifecycle;
pub mod tenancy;

pub use error::{Code, Error, Result};
