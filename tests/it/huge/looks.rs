//! Healthy files of 50 GB, by path and over HTTP: described right, and for the price of a small one.

use tests::big::Shape;
use tests::cost::{Look, Site, Way};

/// How much longer a large file may take than its small sibling.
const RATIO: f64 = 1.5;
/// Runs of each.
const RUNS: usize = 4;
/// How often more runs are taken before a ratio counts as broken: the machine is shared, and the quickest run tells.
const AGAIN: usize = 3;
/// Most bytes that are read of a large file: its index, and what ffprobe reads ahead.
const MOST_READ: u64 = 64 << 20;

#[tokio::test]
async fn fifty_gb_cost_what_five_mb_cost() {
    let site = Site::new(&[]).await;
    let mut wrong = Vec::new();
    println!(
        "{:18} {:5} {:>9} {:>9} {:>6} {:>9} {:>9}",
        "file", "way", "5 MB, ms", "50 GB, ms", "ratio", "MB read", "requests"
    );
    for way in [Way::Path, Way::Http] {
        for shape in Shape::ALL {
            let mut look = Look::take(&site, shape, way, RUNS).await;
            for _ in 0..AGAIN {
                if look.ratio() > RATIO {
                    look = look.and(Look::take(&site, shape, way, RUNS).await);
                }
            }
            println!("{}", look.line(shape, way));
            if look.ratio() > RATIO || look.read_bytes > MOST_READ {
                wrong.push(format!("{} by {way:?}: {look:?}", shape.name()));
            }
            wrong.extend(look.wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
