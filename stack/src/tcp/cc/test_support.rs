//! Events as the engine makes them, for the tests of the algorithms.

use dataplane::Time;

use super::{Ack, Congestion, Kind, Sent};

/// An ACK that delivers `bytes` to a sender that the window limits, on a path of 20 ms.
pub(super) fn ack(bytes: u32, mss: u32) -> Ack {
    Ack {
        now: Time::from_ms(100),
        delivered: bytes,
        acked: bytes,
        lost: 0,
        rtt_us: 20_000,
        srtt_us: 20_000,
        min_rtt_us: 20_000,
        in_flight_before: 0,
        in_flight: 0,
        snd_nxt: 0,
        snd_una: 0,
        total_delivered: 0,
        total_lost: 0,
        limited: true,
        in_recovery: false,
        rate: None,
        mss,
    }
}

/// Congestion of that kind with that much out.
pub(super) fn lost_at(kind: Kind, in_flight: u32, mss: u32) -> Congestion {
    Congestion { now: Time::from_ms(100), kind, in_flight, srtt_us: 20_000, mss }
}

/// The first data after `idle_ns` of silence; the RTO is 200 ms.
pub(super) fn sent_after(idle_ns: u64, mss: u32) -> Sent {
    Sent {
        now: Time::from_ms(100),
        in_flight: 0,
        total_delivered: 0,
        app_limited: true,
        idle_ns,
        rto_ns: 200_000_000,
        mss,
    }
}
