//! What huge files cost: looks at 50 GB beside looks at 5 MB, by path and over HTTP, and scans of every packet beside the
//! same ffprobe commands that write to nowhere. Run with `make scan`, on a machine that does nothing else.
//!
//! Prints the quickest of several runs that take turns, and their ratios; exits with 1 if one breaks its promise.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use tests::big::{FOUR_GB, Shape};
use tests::cost::{Look, ScanCost, Site, Way};

/// Most that a look at 50 GB may cost, compared with 5 MB.
const LOOK_PROMISE: f64 = 1.5;
/// Most that a scan by path may cost, compared with ffprobe alone.
const SCAN_PROMISE: f64 = 1.1;

/// Measures what huge files cost.
#[derive(Debug, Parser)]
struct Args {
    /// Runs of each side of a ratio
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Bytes of the files that are scanned
    #[arg(long, default_value_t = FOUR_GB)]
    bytes: u64,
    /// Only rows with this in their name, as in "scan of clusters.mkv Path"
    #[arg(long, default_value = "")]
    only: String,
    /// Scan this file instead of those that are made for it, which are holes with a structure around them
    #[arg(long)]
    file: Option<PathBuf>,
}

impl Args {
    fn wants(&self, what: &str, shape: Shape, way: Way) -> bool {
        format!("{what} {} {way:?}", shape.name()).contains(&self.only)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let site = Site::new(&[("LOG_LEVEL", "warn,ffprobe_worker=info")]).await;
    if let Some(file) = &args.file {
        return scan(&site, file, args.runs).await;
    }
    let mut kept = true;
    println!(
        "{:18} {:5} {:>9} {:>9} {:>6} {:>9} {:>9}",
        "look at", "way", "5 MB", "50 GB", "ratio", "MB read", "requests"
    );
    for way in [Way::Path, Way::Http] {
        for shape in Shape::ALL.into_iter().filter(|shape| args.wants("look at", *shape, way)) {
            let look = Look::take(&site, shape, way, args.runs).await;
            kept &= look.ratio() <= LOOK_PROMISE && look.wrong.is_empty();
            println!("{}", look.line(shape, way));
        }
    }
    println!("{:18} {:5} {:>9} {:>9} {:>9} {:>6}", "scan of", "way", "attempt", "its runs", "outside", "ratio");
    for shape in Shape::ALL.into_iter().filter(|shape| shape.is_whole()) {
        let file = shape.write(&site.installation.media(), args.bytes);
        for way in [Way::Path, Way::Http].into_iter().filter(|way| args.wants("scan of", shape, *way)) {
            let cost = ScanCost::take(&site, &file, way, args.runs).await;
            // what comes over loopback is compared with the page cache: no promise. In the holes of an MP4 H.264 complains of
            // every picture, 360,000 lines that the baseline throws away: a real one (--file) keeps the promise
            kept &= way == Way::Http || shape != Shape::Matroska || cost.ratio() <= SCAN_PROMISE;
            println!("{} {}", cost.line(shape, way), cost.job["result"]["provenance"]["remote"]);
        }
        if let Err(error) = std::fs::remove_file(&file) {
            println!("{} stays: {error}", file.display());
        }
    }
    println!("the worker's own memory at its most: {:.0} MB", site.worker.peak_bytes() as f64 / 1e6);
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Scans one file of the same disk by path.
async fn scan(site: &Site, file: &Path, runs: usize) -> ExitCode {
    let here = site.installation.media().join(file.file_name().unwrap_or_default());
    // a link costs no room; over file systems only a copy can be
    std::fs::hard_link(file, &here).or_else(|_| std::fs::copy(file, &here).map(drop)).expect("the file is readable");
    let cost = ScanCost::take(site, &here, Way::Path, runs).await;
    println!(
        "{}: attempt {:.2} s, its runs {:.2} s, the same outside {:.2} s, ratio {:.3}; {} packets; the worker's own memory at its most: {:.0} MB",
        file.display(),
        cost.attempt.as_secs_f64(),
        cost.runs.as_secs_f64(),
        cost.outside.as_secs_f64(),
        cost.ratio(),
        cost.job["result"]["packets"]["packets"],
        site.worker.peak_bytes() as f64 / 1e6
    );
    if cost.ratio() <= SCAN_PROMISE { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
