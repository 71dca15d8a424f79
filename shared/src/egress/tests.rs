//! stub
use crate::config::*;
use clap::Parser;
#[derive(Parser)]
struct Program {
    #[command(flatten)]
    egress: EgressArgs,
}
pub(super) fn settings(set: impl FnOnce(&mut EgressArgs)) -> EgressSettings {
    let mut args = Program::try_parse_from(["test"]).unwrap().egress;
    set(&mut args);
    args.settings().unwrap()
}
#[tokio::test]
async fn cost() {
    for s in ["https", "http", "https", "https"] {
        let t = std::time::Instant::now();
        super::pinned::client(s, super::Nobody, &[], super::CONNECT_TIMEOUT).unwrap();
        eprintln!("{s} {:?}", t.elapsed());
    }
}
