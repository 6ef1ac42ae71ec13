//! What is counted while it runs. One core writes, with plain stores; others read when they like.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use dataplane::counters::{BUCKETS, Histogram, bucket_of};

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $id:ident = $name:literal;)*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Count { $($(#[doc = $doc])+ $id,)* }

        impl Count {
            /// All, in order.
            pub const ALL: &'static [Count] = &[$(Count::$id),*];

            /// The name in JSON and reports.
            pub const fn name(self) -> &'static str {
                match self { $(Count::$id => $name,)* }
            }
        }
    };
}

counts! {
    /// Requests that were begun.
    Requests = "requests";
    /// Responses that came whole.
    Responses = "responses";
    /// Requests without a whole response.
    Failed = "failed";
    /// Interim responses (1xx).
    Interim = "1xx";
    /// Responses 2xx.
    Status2 = "2xx";
    /// Responses 3xx.
    Status3 = "3xx";
    /// Responses 4xx.
    Status4 = "4xx";
    /// Responses 5xx.
    Status5 = "5xx";
    /// Bytes of bodies, chunk framing not counted.
    BodyBytes = "body_bytes";
    /// Bytes of responses, heads and framing included.
    Bytes = "bytes";
    /// Arrivals of an open loop.
    Arrivals = "arrivals";
    /// Of them, those that found no free connection and had to wait.
    Late = "late";
    /// Of them, those that found the queue of waiting ones full, and were never begun.
    Shed = "shed";
    /// Connections that were opened.
    Connects = "connects";
    /// TLS handshakes that were full ones.
    HandshakesFull = "handshakes_full";
    /// TLS handshakes that went on from an earlier one.
    HandshakesResumed = "handshakes_resumed";
    /// Requests that were sent again: the server had closed a kept connection before it answered any of them.
    Resent = "resent";
    /// Connections that the server refused.
    ConnectRefused = "connect_refused";
    /// Connections that nobody answered in time.
    ConnectTimeout = "connect_timeout";
    /// Connections that the network found no way for.
    ConnectUnreachable = "connect_unreachable";
    /// Connections whose TLS handshake failed.
    HandshakeFailed = "handshake_failed";
    /// Connections whose TLS handshake was not done in time.
    HandshakeTimeout = "handshake_timeout";
    /// Requests whose connection sent a record that cannot be opened, or an alert.
    Tls = "tls";
    /// Times that a connection had to wait as every port of its source was in use, or in TIME-WAIT.
    NoPort = "no_port";
    /// Times that it had to wait for a control block: closed ones were not gone yet.
    NoFlow = "no_flow";
    /// Requests that were not answered in time.
    Timeout = "timeout";
    /// Requests whose connection was reset.
    Reset = "reset";
    /// Requests whose connection was closed before or within the response.
    Closed = "closed";
    /// Requests that were answered by what is no HTTP/1.1 response.
    Parse = "parse";
    /// Requests that memory was lacking for: heads in pieces, send records.
    NoMemory = "no_memory";
    /// Responses with another status than was wanted.
    WrongStatus = "wrong_status";
    /// Responses with another body than was wanted.
    WrongBody = "wrong_body";
}

impl Count {
    /// Those that are errors, in the order of reports. Not among them: what only had to wait.
    pub const ERRORS: [Count; 13] = [
        Count::ConnectRefused,
        Count::ConnectTimeout,
        Count::ConnectUnreachable,
        Count::HandshakeFailed,
        Count::HandshakeTimeout,
        Count::Tls,
        Count::Timeout,
        Count::Reset,
        Count::Closed,
        Count::Parse,
        Count::NoMemory,
        Count::WrongStatus,
        Count::WrongBody,
    ];

    /// The class of a status.
    pub fn of_status(status: u16) -> Count {
        match status / 100 {
            2 => Count::Status2,
            3 => Count::Status3,
            4 => Count::Status4,
            _ => Count::Status5,
        }
    }
}

/// A histogram that others may read.
pub struct Shared {
    buckets: Box<[AtomicU64]>,
    max: AtomicU64,
}

impl Default for Shared {
    fn default() -> Shared {
        Shared { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), max: AtomicU64::new(0) }
    }
}

fn add(counter: &AtomicU64, n: u64) {
    // One writer: a plain store.
    counter.store(counter.load(Relaxed) + n, Relaxed);
}

impl Shared {
    /// Records a value.
    #[inline]
    pub fn record(&self, value: u64) {
        add(&self.buckets[bucket_of(value)], 1);
        if value > self.max.load(Relaxed) {
            self.max.store(value, Relaxed);
        }
    }

    /// A copy.
    pub fn read(&self) -> Histogram {
        let mut h = Histogram::default();
        for (i, n) in self.buckets.iter().enumerate() {
            h.add(i, n.load(Relaxed));
        }
        h
    }

    /// The largest value, exactly.
    pub fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }

    /// Each bucket's count.
    pub fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        self.buckets.iter().map(|n| n.load(Relaxed))
    }
}

/// All of it.
#[derive(Default)]
pub struct Tally {
    counts: [AtomicU64; Count::ALL.len()],
    /// Requests under way.
    pub in_flight: AtomicU64,
    /// Connections that are open.
    pub open: AtomicU64,
    /// The most that ever were.
    pub open_max: AtomicU64,
    /// Requests that wait for a connection (open loop).
    pub waiting: AtomicU64,
    /// What it is at: 0 before the first request, 1 in the warm-up, 2 measured, 3 at the end.
    pub stage: AtomicU64,
    /// From the intended start of a request, or in a closed loop from its sending, to its last byte.
    pub latency: Shared,
    /// From the same to the response's first byte.
    pub first_byte: Shared,
    /// From the SYN to the established connection.
    pub connect: Shared,
    /// From that to the end of the TLS handshake.
    pub handshake: Shared,
    /// When the first handshake began, and the last ended that came to something; 0: never.
    pub shaking_from: AtomicU64,
    /// The end.
    pub shaking_to: AtomicU64,
}

impl Tally {
    /// Counts one.
    #[inline]
    pub fn inc(&self, c: Count) {
        self.add(c, 1);
    }

    /// Counts many.
    #[inline]
    pub fn add(&self, c: Count, n: u64) {
        add(&self.counts[c as usize], n);
    }

    /// What was counted.
    pub fn get(&self, c: Count) -> u64 {
        self.counts[c as usize].load(Relaxed)
    }

    /// All errors.
    pub fn errors(&self) -> u64 {
        Count::ERRORS.iter().map(|c| self.get(*c)).sum()
    }

    /// Sets a gauge.
    #[inline]
    pub fn set(gauge: &AtomicU64, value: u64) {
        gauge.store(value, Relaxed);
    }
}

/// How it ended.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// Why nothing was asked, if so.
    pub failed: Option<String>,
    /// From the first measured request to the last answer, in nanoseconds; at least the time that was asked for.
    pub measured_ns: u64,
    /// When requests were begun for the last time, counted in the same way: less than the other where answers were
    /// waited for.
    pub asking_ns: u64,
    /// Measured requests that were under way when the wait for them ended.
    pub unfinished: u64,
    /// Arrivals that still waited for a connection then.
    pub unsent: u64,
    /// What the first TLS handshake has agreed on.
    pub agreed: Option<String>,
    /// Why the last TLS handshake failed that did.
    pub refused: Option<String>,
}
