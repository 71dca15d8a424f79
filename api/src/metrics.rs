//! What the API counts. Labels are bounded: routes by their pattern, never by their URL.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A handled request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Handled {
    /// GET, POST, …, or `other`.
    pub method: &'static str,
    /// The route's pattern, or `none`.
    pub route: String,
    /// The status.
    pub status: u16,
}

/// A route, for durations.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Route {
    /// The route's pattern, or `none`.
    pub route: String,
}

/// An accepted job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Submission {
    /// Its profile.
    pub profile: &'static str,
}

/// A request that was refused because of a limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Limited {
    /// The policy: `key`, `tenant`, `address`, `authentication`, …, or `queued`.
    pub policy: &'static str,
}

/// The counters of one API process.
#[derive(Clone, Default)]
pub struct Metrics {
    /// Requests by route and status.
    pub requests: Family<Handled, Counter>,
    /// Seconds from the request's head to the answer's head.
    pub duration: Arc<Durations>,
    /// Requests being handled.
    pub in_flight: Gauge,
    /// Accepted jobs.
    pub submitted: Family<Submission, Counter>,
    /// Bytes of uploads taken.
    pub upload_bytes: Counter,
    /// Completed uploads.
    pub uploads: Counter,
    /// Audit events written, not counting those kept with their change.
    pub audit_written: Counter,
    /// Audit events that found no room or that the database refused.
    pub audit_lost: Counter,
    /// Event streams that are open.
    pub event_streams: Gauge,
    /// Event streams that were closed because their clients did not keep up.
    pub event_streams_dropped: Counter,
    /// Requests refused because of a limit.
    pub limited: Family<Limited, Counter>,
    /// 1 while this process counts requests by itself, because Redis does not.
    pub limits_local: Gauge,
}

/// Request durations by route.
pub struct Durations(pub Family<Route, Histogram, fn() -> Histogram>);

impl Default for Durations {
    fn default() -> Self {
        // 1 ms to 33 s in steps of two
        Self(Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 16))))
    }
}

impl Metrics {
    /// Names the counters in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "Requests handled", self.requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "From a request's head to its answer's head",
            Unit::Seconds,
            self.duration.0.clone(),
        );
        registry.register("http_requests_in_flight", "Requests being handled", self.in_flight.clone());
        registry.register("jobs_submitted", "Jobs accepted", self.submitted.clone());
        registry.register_with_unit("upload", "Bytes of uploads taken", Unit::Bytes, self.upload_bytes.clone());
        registry.register("uploads_completed", "Uploads completed", self.uploads.clone());
        let written = "Audit events written by themselves, beside those kept with their change";
        registry.register("audit_events_written", written, self.audit_written.clone());
        registry.register("audit_events_lost", "Audit events that could not be written", self.audit_lost.clone());
        registry.register("event_streams", "Event streams that are open", self.event_streams.clone());
        let dropped = "Event streams closed because their clients did not keep up";
        registry.register("event_streams_dropped", dropped, self.event_streams_dropped.clone());
        registry.register("requests_limited", "Requests refused because of a limit", self.limited.clone());
        registry.register(
            "limits_local",
            "1 while this process counts requests by itself, because Redis does not",
            self.limits_local.clone(),
        );
    }

    /// Counts a request that was refused because of a limit.
    pub fn count_limited(&self, policy: &'static str) {
        self.limited.get_or_create(&Limited { policy }).inc();
    }
}
