//! What can go wrong, in an order that a seed decides. Used by the storm; does nothing by itself.

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A worker is killed and replaced.
    KillWorker,
    /// A process that relays and keeps house is killed and replaced.
    KillRelay,
    /// An API is killed and replaced.
    KillApi,
    /// A worker is asked to stop, and replaced.
    StopWorker,
    /// A worker stands still for longer than its lease.
    FreezeWorker,
    /// A process that relays and keeps house stands still for as long.
    FreezeRelay,
    /// Redis forgets everything.
    FlushRedis,
    /// Both servers of Redis are killed and stay away for some seconds.
    KillRedis,
    /// Redis takes connections and answers nothing for some seconds.
    FreezeRedis,
    /// The primary of Redis is killed, the replica takes its place, and the killed one comes back.
    KillPrimary,
    /// The primary of Redis stands still, the replica takes its place, and the old one goes on as if nothing had happened.
    FreezePrimary,
    /// PostgreSQL ends as if the power had failed, and starts again.
    RestartPostgres,
    /// PostgreSQL answers nothing for longer than a lease.
    FreezePostgres,
}

/// One round. Killed workers are the most frequent trouble there is.
const ROUND: [Fault; 14] = [
    Fault::KillWorker,
    Fault::KillWorker,
    Fault::KillRelay,
    Fault::KillApi,
    Fault::StopWorker,
    Fault::FreezeWorker,
    Fault::FreezeRelay,
    Fault::FlushRedis,
    Fault::KillRedis,
    Fault::FreezeRedis,
    Fault::KillPrimary,
    Fault::FreezePrimary,
    Fault::RestartPostgres,
    Fault::FreezePostgres,
];

/// Chance from a seed: the same seed gives the same order of faults for ever, whatever becomes of libraries (SplitMix64).
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// Dice that fall as this seed wants.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).expect("fits");
        usize::try_from(self.next() % bound).expect("fits")
    }

    /// Every fault of a round, in a new order.
    pub(super) fn round(&mut self) -> Vec<Fault> {
        let mut faults = ROUND.to_vec();
        for last in (1..faults.len()).rev() {
            let other = self.below(last + 1);
            faults.swap(last, other);
        }
        faults
    }
}

#[test]
fn a_seed_decides_the_order() {
    let rounds = |seed| {
        (0..3)
            .map({
                let mut dice = Dice::new(seed);
                move |_| dice.round()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(rounds(7), rounds(7));
    assert_ne!(rounds(7), rounds(8));
    let round = Dice::new(1).round();
    assert!(ROUND.iter().all(|fault| round.contains(fault)), "{round:?}");
}
