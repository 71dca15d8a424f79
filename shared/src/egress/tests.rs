//! `egress` against real listeners on this machine: what it refuses, how it follows, how it fails. Only the name service is
//! played. Here is what the tests share: settings, a scripted resolver, and the way out made of both.

mod fetch;
mod origin;
mod refusal;
mod targets;
mod tls;

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use futures::TryStreamExt;

use super::*;
use crate::config::EgressArgs;

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    egress: EgressArgs,
}

/// The defaults, with changes.
pub(super) fn settings(set: impl FnOnce(&mut EgressArgs)) -> EgressSettings {
    let mut args = Program::try_parse_from(["test"]).expect("defaults").egress;
    set(&mut args);
    args.settings().expect("good settings")
}

/// Both schemes and every port, so that a refusal is about the address; the networks in `opened` are let through.
fn wide(opened: &str) -> Egress {
    let settings = settings(|args| {
        args.egress_schemes = "https,http".into();
        args.egress_ports = "1-65535".into();
        args.egress_allow_cidrs = opened.into();
    });
    Egress::new(settings).expect("good settings")
}

type Answered = Result<Vec<IpAddr>, LookupError>;

/// A name service that gives its answers one after the other, and the last one for ever; it counts the questions.
struct Names {
    asked: Arc<AtomicUsize>,
    resolver: Resolver,
}

impl Names {
    /// `answers` are lists of addresses.
    fn say(answers: &[&[&str]]) -> Self {
        let parse = |list: &&[&str]| Ok(list.iter().map(|ip| ip.parse().expect("an address")).collect());
        Self::script(Duration::ZERO, answers.iter().map(parse).collect())
    }

    fn script(delay: Duration, answers: Vec<Answered>) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, answers) = (asked.clone(), Mutex::new(answers));
        let resolver = Resolver::Scripted(Arc::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            let mut answers = answers.lock().expect("unpoisoned");
            let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
            (delay, answer)
        }));
        Self { asked, resolver }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Egress {
    fn resolved_by(mut self, names: &Names) -> Self {
        self.resolver = names.resolver.clone();
        self.message_resolver = names.resolver.clone();
        self
    }
}

fn url(text: &str) -> Url {
    Url::parse(text).expect("a URL")
}

fn get(text: &str) -> Get {
    Get { url: url(text), verb: Verb::Get, headers: HeaderMap::new(), range: None }
}

/// How the fetch of `text` fails.
async fn failing(egress: &Egress, text: &str) -> Error {
    egress.follow(get(text)).await.expect_err(text)
}

async fn text(answer: Answer) -> String {
    let parts: Vec<Bytes> = answer.body.try_collect().await.expect("a whole body");
    String::from_utf8(parts.concat()).expect("text")
}
