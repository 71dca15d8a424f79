//! Where things are in a state directory, as settings of the programs that use them.
//!
//! Called by `up::program` for the API and the worker, and by `probectl doctor` for a look at an `up` that runs. It must never start,
//! make or change anything: who only looks leaves no trace.

use std::path::PathBuf;

use super::{StateArgs, plan};
use crate::private::{self, APPLICATION, DATABASE};

/// The settings that `up` gives to its API and its worker, as far as they say where things are.
#[derive(Debug)]
pub struct Places {
    /// The state directory, with its real path.
    pub state: PathBuf,
    /// `DATABASE_URL`. It holds no password: the socket is in a private directory.
    pub database_url: String,
    /// `REDIS_URL`; no password either.
    pub redis_url: String,
    /// `STORAGE_URL`.
    pub storage_url: String,
    /// `API_KEY_PEPPER_FILE`.
    pub pepper_file: PathBuf,
    /// `JWT_SECRET_FILE`.
    pub jwt_secret_file: PathBuf,
    /// `ENCRYPTION_KEYS_FILE`.
    pub encryption_keys_file: PathBuf,
}

impl Places {
    /// The `up` that holds the state directory now; none if nobody does, or if it is not ours to look into.
    pub fn of_running(args: &StateArgs) -> Option<Self> {
        let state = plan::state_dir(args, rustix::process::geteuid().is_root()).ok()?.canonicalize().ok()?;
        private::check_not_running(&state).err()?;
        Some(Self::of(state))
    }

    /// Those of a state directory with its real path.
    pub(super) fn of(state: PathBuf) -> Self {
        Self {
            database_url: private::database_url(&state, DATABASE, APPLICATION),
            redis_url: private::redis_url(&state),
            storage_url: format!("file://{}", state.join(plan::UPLOADS).display()),
            pepper_file: state.join(plan::PEPPER_FILE),
            jwt_secret_file: state.join(plan::JWT_SECRET_FILE),
            encryption_keys_file: state.join(plan::ENCRYPTION_KEYS_FILE),
            state,
        }
    }
}
