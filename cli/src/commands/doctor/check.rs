//! One look at one thing, and how it came out. Filled by the files beside this one, printed by `doctor`. No finding holds a
//! secret, and each that is not well says what to do next.

use serde_json::{Value, json};
use shared::config::ConfigError;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is as it should be.
    Ok,
    /// It works, and could be better.
    Warn,
    /// It does not work, or is not safe.
    Fail,
    /// It could not be looked at.
    Skip,
}

impl Outcome {
    /// The word that is printed.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }
}

/// One look at one thing.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) area: &'static str,
    pub(super) name: &'static str,
    pub(super) outcome: Outcome,
    /// What was seen.
    pub(super) found: String,
    /// What to do about it.
    pub(super) next: Option<String>,
}

/// All of them, in the order made.
#[derive(Debug, Default)]
pub(super) struct Checks(pub(super) Vec<Check>);

impl Checks {
    fn add(&mut self, at: At, outcome: Outcome, found: impl Into<String>, next: Option<String>) {
        self.0.push(Check { area: at.0, name: at.1, outcome, found: found.into(), next });
    }

    /// It is as it should be.
    pub(super) fn ok(&mut self, at: At, found: impl Into<String>) {
        self.add(at, Outcome::Ok, found, None);
    }

    /// It works, and could be better.
    pub(super) fn warn(&mut self, at: At, found: impl Into<String>, next: impl Into<String>) {
        self.add(at, Outcome::Warn, found, Some(next.into()));
    }

    /// It does not work, or is not safe.
    pub(super) fn fail(&mut self, at: At, found: impl Into<String>, next: impl Into<String>) {
        self.add(at, Outcome::Fail, found, Some(next.into()));
    }

    /// It could not be looked at, and why.
    pub(super) fn skip(&mut self, at: At, why: impl Into<String>) {
        self.add(at, Outcome::Skip, why, None);
    }

    /// A setting that would stop the start.
    pub(super) fn refuse(&mut self, at: At, error: ConfigError) {
        self.fail(at, format!("{}: {}", error.variable, error.problem), error.fix);
    }

    /// How many came out so.
    pub(super) fn count(&self, outcome: Outcome) -> usize {
        self.0.iter().filter(|check| check.outcome == outcome).count()
    }

    /// For programs.
    pub(super) fn to_json(&self) -> Value {
        let checks = self.0.iter().map(|check| {
            json!({
                "area": check.area, "name": check.name, "outcome": check.outcome.as_str(),
                "found": check.found, "next": check.next,
            })
        });
        json!({
            "checks": checks.collect::<Vec<_>>(),
            "ok": self.count(Outcome::Ok), "warn": self.count(Outcome::Warn),
            "fail": self.count(Outcome::Fail), "skip": self.count(Outcome::Skip),
        })
    }
}

/// What is looked at: an area, and a thing in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct At(pub(super) &'static str, pub(super) &'static str);
