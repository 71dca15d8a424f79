//! What a worker counts.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// An attempt that ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Ended {
    /// The job's profile.
    pub profile: &'static str,
    /// `succeeded`, a failure's code, `lost` or `released`.
    pub outcome: &'static str,
}

/// A look for a result to share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Looked {
    /// `hit`, `miss`, `wait`, `lost` or `error`.
    pub outcome: &'static str,
}

/// An attempt to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Delivered {
    /// `succeeded`, `again`, `failed`, `disabled` or `lost`.
    pub outcome: &'static str,
}

/// A sandbox protection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Protection {
    /// Its name.
    pub protection: String,
}

/// The counters of one worker process.
#[derive(Clone)]
pub struct Metrics {
    /// Jobs claimed.
    pub claimed: Counter,
    /// Attempts ended, by outcome.
    pub ended: Family<Ended, Counter>,
    /// Looks for a result to share, by outcome.
    pub reuse: Family<Looked, Counter>,
    /// Seconds an attempt took.
    pub duration: Histogram,
    /// Seconds a job was due before it was claimed.
    pub waited: Histogram,
    /// Processor seconds used by ffprobe.
    pub ffprobe_cpu: Counter<f64, AtomicU64>,
    /// Bytes read by ffprobe.
    pub ffprobe_read: Counter,
    /// Slots in use.
    pub busy: Gauge,
    /// Slots there are.
    pub slots: Gauge,
    /// Tickets sent by the relay.
    pub tickets: Counter,
    /// Jobs taken from workers that fell silent.
    pub rescued: Counter,
    /// Events published.
    pub published: Counter,
    /// Attempts to deliver to webhooks, by outcome.
    pub delivered: Family<Delivered, Counter>,
    /// Seconds such an attempt took.
    pub delivery_duration: Histogram,
    /// Deliveries that wait, up to 10,001.
    pub deliveries_pending: Gauge,
    /// Targets that are left alone for a while, up to 10,001.
    pub circuits_open: Gauge,
    /// Jobs that wait, up to 10,001.
    pub queued: Gauge,
    /// Jobs that run, up to 10,001.
    pub running: Gauge,
    /// How long the longest-waiting due job has been due.
    pub oldest_due: Gauge<f64, AtomicU64>,
    /// 1 for a protection that is active, else 0.
    pub protections: Family<Protection, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            claimed: Counter::default(),
            ended: Family::default(),
            reuse: Family::default(),
            // 8 ms to 36 min in steps of two
            duration: Histogram::new(exponential_buckets(0.008, 2.0, 18)),
            waited: Histogram::new(exponential_buckets(0.008, 2.0, 18)),
            ffprobe_cpu: Counter::default(),
            ffprobe_read: Counter::default(),
            busy: Gauge::default(),
            slots: Gauge::default(),
            tickets: Counter::default(),
            rescued: Counter::default(),
            published: Counter::default(),
            delivered: Family::default(),
            // 4 ms to 33 s in steps of two
            delivery_duration: Histogram::new(exponential_buckets(0.004, 2.0, 14)),
            deliveries_pending: Gauge::default(),
            circuits_open: Gauge::default(),
            queued: Gauge::default(),
            running: Gauge::default(),
            oldest_due: Gauge::default(),
            protections: Family::default(),
        }
    }
}

impl Metrics {
    /// Names the counters in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("jobs_claimed", "Jobs claimed", self.claimed.clone());
        registry.register("attempts_ended", "Attempts ended, by outcome", self.ended.clone());
        registry.register("result_reuse", "Looks for a result to share, by outcome", self.reuse.clone());
        registry.register_with_unit(
            "attempt_duration",
            "How long an attempt took",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register_with_unit(
            "job_wait",
            "How long a job was due before it was claimed",
            Unit::Seconds,
            self.waited.clone(),
        );
        registry.register_with_unit(
            "ffprobe_cpu",
            "Processor time used by ffprobe",
            Unit::Seconds,
            self.ffprobe_cpu.clone(),
        );
        registry.register_with_unit("ffprobe_read", "Bytes read by ffprobe", Unit::Bytes, self.ffprobe_read.clone());
        registry.register("slots_busy", "Slots in use", self.busy.clone());
        registry.register("slots", "Slots there are", self.slots.clone());
        registry.register("tickets_sent", "Tickets sent by the relay", self.tickets.clone());
        registry.register("jobs_rescued", "Jobs taken from workers that fell silent", self.rescued.clone());
        registry.register("events_published", "Events published", self.published.clone());
        self.register_deliveries(registry);
        registry.register("jobs_queued", "Jobs that wait, counted up to 10001", self.queued.clone());
        registry.register("jobs_running", "Jobs that run, counted up to 10001", self.running.clone());
        registry.register_with_unit(
            "oldest_due",
            "How long the longest-waiting due job has been due",
            Unit::Seconds,
            self.oldest_due.clone(),
        );
        registry.register("sandbox_protection_active", "1 for a protection that is active", self.protections.clone());
    }

    fn register_deliveries(&self, registry: &mut Registry) {
        registry.register("deliveries", "Attempts to deliver to webhooks, by outcome", self.delivered.clone());
        registry.register_with_unit(
            "delivery_duration",
            "How long an attempt to deliver took",
            Unit::Seconds,
            self.delivery_duration.clone(),
        );
        let pending = self.deliveries_pending.clone();
        registry.register("deliveries_pending", "Deliveries that wait, counted up to 10001", pending);
        let open = self.circuits_open.clone();
        registry.register("webhook_circuits_open", "Targets that are left alone for a while, up to 10001", open);
    }

    /// Counts an attempt that ended.
    pub fn attempt(&self, profile: &'static str, outcome: &'static str, took: Duration) {
        self.ended.get_or_create(&Ended { profile, outcome }).inc();
        self.duration.observe(took.as_secs_f64());
    }
}
