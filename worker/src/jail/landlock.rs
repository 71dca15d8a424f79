//! Landlock rules: which files the program may open, and which port it may connect to, if any. Called by [`super::walls`] in the process to be
//! confined. Files and TCP are two layers, so that an older kernel that has only the first is told apart from none.

use std::io::ErrorKind;
use std::path::Path;

use ::landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::{Order, Reach};

/// What every dynamic program reads at its start. None of them is a secret; a missing one is no error.
const EVERYBODY_READS: [&str; 3] = ["/etc/ld.so.cache", "/dev/null", "/dev/urandom"];

/// Lets this process read its standard input (if that is a file), the libraries and the program, execute the program, and open
/// nothing else; nor signal or reach by socket name any process outside.
pub(super) fn restrict_files(order: &Order) -> Result<(), String> {
    let execute = AccessFs::Execute | AccessFs::ReadFile;
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))
        .and_then(|r| r.scope(Scope::from_all(ABI::V6)))
        .and_then(Ruleset::create)
        .map_err(text)?;
    if order.reach == Reach::File {
        // ffprobe opens its input anew through /dev/fd/0, so the descriptor alone is not enough
        let input = PathBeneath::new(rustix::stdio::stdin(), AccessFs::ReadFile);
        rules = rules.add_rule(input).map_err(text)?;
    }
    for path in &order.execute {
        rules = allow(rules, path, execute)?;
    }
    for path in order.read.iter().map(AsRef::as_ref).chain(EVERYBODY_READS.map(Path::new)) {
        rules = allow(rules, path, AccessFs::ReadFile.into())?;
    }
    let status = rules.restrict_self().map_err(text)?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced, _) => Ok(()),
        (RulesetStatus::NotEnforced, LandlockStatus::NotImplemented) => {
            Err("the kernel has no Landlock (Linux 5.13)".into())
        }
        (RulesetStatus::NotEnforced, _) => {
            Err("Landlock is not among the kernel's active security modules (lsm=)".into())
        }
    }
}

/// Forbids TCP connections in both directions, but for those to the port of a remote input.
pub(super) fn restrict_tcp(reach: Reach) -> Result<(), String> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessNet::from_all(ABI::V4))
        .map_err(|_| "the kernel's Landlock has no rules for TCP (Linux 6.7)".to_owned())?
        .create()
        .and_then(|rules| match reach {
            Reach::File => Ok(rules),
            Reach::Loopback { port } => rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp)),
        })
        .and_then(RulesetCreated::restrict_self)
        .map(drop)
        .map_err(text)
}

fn allow(rules: RulesetCreated, path: &Path, access: ::landlock::BitFlags<AccessFs>) -> Result<RulesetCreated, String> {
    let file = match PathFd::new(path) {
        Ok(file) => file,
        Err(::landlock::PathFdError::OpenCall { source, .. }) if source.kind() == ErrorKind::NotFound => {
            return Ok(rules);
        }
        Err(e) => return Err(e.to_string()),
    };
    rules.add_rule(PathBeneath::new(file, access)).map_err(text)
}

fn text(error: RulesetError) -> String {
    error.to_string()
}
