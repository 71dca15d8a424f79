//! Programs (services) of a transport stream. Used by [`super::normalize`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::raw;

/// A program (service) of a transport stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Program {
    /// ffprobe's program id.
    pub id: Option<u32>,
    /// Program number in the PAT.
    pub number: Option<u32>,
    /// Service name from the SDT.
    pub name: Option<String>,
    /// Service provider from the SDT.
    pub provider: Option<String>,
    /// PID of the program map table.
    pub pmt_pid: Option<u32>,
    /// PID that carries the program clock.
    pub pcr_pid: Option<u32>,
    /// Indexes of the tracks that belong to it.
    pub tracks: Vec<u32>,
    /// Tags of the program.
    pub tags: BTreeMap<String, String>,
}

pub(super) fn program(program: &raw::Program) -> Program {
    Program {
        id: program.program_id.positive_or_zero(),
        number: program.program_num.positive_or_zero(),
        name: program.tags.get("service_name").map(str::to_owned),
        provider: program.tags.get("service_provider").map(str::to_owned),
        pmt_pid: program.pmt_pid.positive_or_zero(),
        pcr_pid: program.pcr_pid.positive_or_zero(),
        tracks: program.streams.iter().filter_map(|stream| stream.index.positive_or_zero()).collect(),
        tags: program.tags.to_map(),
    }
}
