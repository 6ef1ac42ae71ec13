//! Origins that have just failed.

use dataplane::Time;

/// How long a failed fetch answers for the next ones of its key.
const FAILURE_NS: u64 = 1_000_000_000;
const FAILURES: usize = 256;

/// Fetches that failed a moment ago: those who waited for them, and who come right after, are not sent to the same
/// dead origin one by one.
pub(super) struct Failures([Failure; FAILURES]);

#[derive(Clone, Copy, Default)]
struct Failure {
    hash: u64,
    until: Time,
    status: u16,
}

impl Failures {
    /// None so far.
    pub fn new() -> Failures {
        Failures([Failure::default(); FAILURES])
    }

    /// A fetch of this key has failed, with this status.
    pub fn note(&mut self, hash: u64, status: u16, now: Time) {
        self.0[hash as usize % FAILURES] = Failure { hash, until: now.plus_ns(FAILURE_NS), status };
    }

    /// The status that the key's fetch failed with a moment ago.
    pub fn find(&self, hash: u64, now: Time) -> Option<u16> {
        let f = &self.0[hash as usize % FAILURES];
        (f.hash == hash && f.until > now).then_some(f.status)
    }
}
