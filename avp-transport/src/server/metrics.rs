//! The server's metrics, in the text format of Prometheus: numbers and names, never payload data.

use std::{fmt, sync::Arc, time::Duration};

use http::Method;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use super::Scope;

/// The media type of [`Metrics::text`].
pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of a server.
#[derive(Clone)]
pub struct Metrics(Arc<Counters>);

struct Counters {
    registry: Registry,
    requests: Family<Answered, Counter>,
    refusals: Family<Refused, Counter>,
    seconds: Family<Asked, Histogram, fn() -> Histogram>,
    received: Counter,
    sent: Counter,
    bodies: Gauge,
    connections: Gauge,
    stored: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    endpoint: Endpoint,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    endpoint: Endpoint,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: String,
}

/// An endpoint's label in the log and the metrics, which a client cannot choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Endpoint(pub(super) &'static str);

impl Endpoint {
    pub(super) const HEALTH: Self = Self("health");

    /// Stored contexts.
    pub(super) const CONTEXT: Self = Self("context");

    /// A path that is not AVP's.
    pub(super) const OTHER: Self = Self("other");

    /// The scope that a request needs; `None` for those that need no token.
    pub(super) fn scope(self, method: &Method) -> Option<Scope> {
        match self.0 {
            "health" => None,
            "metrics" => Some(Scope::Metrics),
            "handshake" | "transmit" => Some(Scope::Send),
            "context" if *method == Method::DELETE => Some(Scope::Delete),
            "context" => Some(Scope::Fetch),
            _ => Some(Scope::Complete),
        }
    }
}

impl EncodeLabelValue for Endpoint {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.encode(encoder)
    }
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("avp");
        let requests = Family::default();
        registry.register("requests", "Requests answered", requests.clone());
        let refusals = Family::default();
        registry.register("refusals", "Requests refused, by reason", refusals.clone());
        // From a millisecond to half a minute and more.
        let seconds = Family::new_with_constructor(
            (|| Histogram::new(exponential_buckets(0.001, 4.0, 9))) as fn() -> Histogram,
        );
        let about = "From a request's head to its response's";
        registry.register_with_unit("request_duration", about, Unit::Seconds, seconds.clone());
        let received = Counter::default();
        registry.register_with_unit("received", "Bytes of frames received", Unit::Bytes, received.clone());
        let sent = Counter::default();
        registry.register_with_unit("sent", "Bytes of contexts sent", Unit::Bytes, sent.clone());
        let bodies = Gauge::default();
        registry.register("bodies", "Frames being received", bodies.clone());
        let connections = Gauge::default();
        registry.register("connections", "Open connections", connections.clone());
        let stored = Gauge::default();
        registry.register_with_unit("stored", "Bytes of contexts stored", Unit::Bytes, stored.clone());
        Self(Arc::new(Counters {
            registry,
            requests,
            refusals,
            seconds,
            received,
            sent,
            bodies,
            connections,
            stored,
        }))
    }

    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` does not fail.
        let _ = text::encode(&mut text, &self.0.registry);
        text
    }

    pub(super) fn answered(&self, endpoint: Endpoint, status: u16, took: Duration) {
        self.0.requests.get_or_create(&Answered { endpoint, status }).inc();
        self.0.seconds.get_or_create(&Asked { endpoint }).observe(took.as_secs_f64());
    }

    pub(super) fn refused(&self, reason: &str) {
        self.0.refusals.get_or_create(&Refused { reason: reason.to_owned() }).inc();
    }

    pub(super) fn received(&self, bytes: u64) {
        self.0.received.inc_by(bytes);
    }

    pub(super) fn sent(&self, bytes: u64) {
        self.0.sent.inc_by(bytes);
    }

    pub(super) fn stored(&self, bytes: u64) {
        self.0.stored.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Counts a body until the guard is dropped.
    pub(super) fn body(&self) -> GaugeGuard {
        GaugeGuard::new(&self.0.bodies)
    }

    /// Counts a connection until the guard is dropped.
    pub(super) fn connection(&self) -> GaugeGuard {
        GaugeGuard::new(&self.0.connections)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Raises a gauge by one until it is dropped.
pub(super) struct GaugeGuard(Gauge);

impl GaugeGuard {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_in_prometheus_text_format() {
        let metrics = Metrics::new();
        metrics.answered(Endpoint("transmit"), 200, Duration::from_millis(5));
        metrics.refused("bad_magic");
        let body = metrics.body();
        let text = metrics.text();
        for line in [
            "avp_requests_total{endpoint=\"transmit\",status=\"200\"} 1",
            "avp_refusals_total{reason=\"bad_magic\"} 1",
            "avp_request_duration_seconds_count{endpoint=\"transmit\"} 1",
            "avp_bodies 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        drop(body);
        assert!(metrics.text().contains("avp_bodies 0\n"));
        assert!(text.ends_with("# EOF\n"));
    }
}
