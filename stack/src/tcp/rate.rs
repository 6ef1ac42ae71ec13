//! Delivery-rate samples (draft-ietf-ccwg-bbr, section 4.1): how fast the path delivered what was sent.

use dataplane::Time;

use super::cc::Rate;

/// Microseconds of the clock, modulo 2^32 (71 minutes): for intervals.
#[inline]
pub fn micros(now: Time) -> u32 {
    (now.0 / 1000) as u32
}

/// What a connection has delivered (draft's C).
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivered {
    /// Bytes delivered in all, modulo 2^32 (C.delivered).
    pub bytes: u32,
    /// When that was, µs (C.delivered_time).
    pub at_us: u32,
    /// Sending time of the segment that was delivered last, µs (C.first_send_time).
    pub first_sent_us: u32,
    /// `bytes` up to which samples are limited by the owner; 0: none are (C.app_limited).
    pub app_limited: u32,
    /// Bytes found lost in all, modulo 2^32 (C.lost).
    pub lost: u32,
    /// Bytes sent again in all.
    pub resent: u64,
}

/// What a segment remembers of `Delivered` at its sending (draft's P).
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamp {
    /// `Delivered::bytes`.
    pub delivered: u32,
    /// `Delivered::at_us`.
    pub delivered_us: u32,
    /// `Delivered::first_sent_us`.
    pub first_sent_us: u32,
    /// Bytes in flight, this segment included.
    pub in_flight: u32,
    /// `Delivered::lost`.
    pub lost: u32,
}

impl Delivered {
    /// Nothing has been delivered.
    pub const EMPTY: Delivered =
        Delivered { bytes: 0, at_us: 0, first_sent_us: 0, app_limited: 0, lost: 0, resent: 0 };

    /// A segment of `bytes` is sent, with `in_flight` bytes out before it.
    #[inline]
    pub fn stamp(&mut self, now_us: u32, in_flight: u32, bytes: u32) -> Stamp {
        if in_flight == 0 {
            // The path was idle: what is measured begins here.
            self.first_sent_us = now_us;
            self.at_us = now_us;
        }
        Stamp {
            delivered: self.bytes,
            delivered_us: self.at_us,
            first_sent_us: self.first_sent_us,
            in_flight: in_flight + bytes,
            lost: self.lost,
        }
    }

    /// The owner has nothing more to send, and `in_flight` bytes are out.
    #[inline]
    pub fn set_app_limited(&mut self, in_flight: u32) {
        self.app_limited = self.bytes.wrapping_add(in_flight).max(1);
    }

    /// More has been delivered than was out when the owner had nothing more to send: samples tell of the path again.
    #[inline]
    pub fn end_app_limited(&mut self) {
        if self.app_limited != 0 && (self.bytes.wrapping_sub(self.app_limited) as i32) > 0 {
            self.app_limited = 0;
        }
    }

    /// Whether samples are limited by the owner.
    #[inline]
    pub fn is_app_limited(&self) -> bool {
        self.app_limited != 0
    }
}

/// Collects the sample of one ACK: that of the segment sent last of those that it delivers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sampler {
    stamp: Stamp,
    sent_us: u32,
    app_limited: bool,
    any: bool,
}

impl Sampler {
    /// The ACK delivers a segment that was sent at `sent_us`.
    #[inline]
    pub fn take(
        &mut self,
        d: &mut Delivered,
        stamp: &Stamp,
        sent_us: u32,
        app_limited: bool,
        bytes: u32,
        now_us: u32,
    ) {
        d.bytes = d.bytes.wrapping_add(bytes);
        d.at_us = now_us;
        if !self.any || (sent_us.wrapping_sub(self.sent_us) as i32) >= 0 {
            (self.stamp, self.sent_us, self.app_limited, self.any) = (*stamp, sent_us, app_limited, true);
            d.first_sent_us = sent_us;
        }
    }

    /// The sample, when there is one: an interval shorter than the path's RTT says nothing.
    pub fn rate(&self, d: &Delivered, min_rtt_us: u32) -> Option<Rate> {
        if !self.any {
            return None;
        }
        let sending = self.sent_us.wrapping_sub(self.stamp.first_sent_us);
        let acking = d.at_us.wrapping_sub(self.stamp.delivered_us);
        let interval_us = sending.max(acking);
        if interval_us == 0 || (min_rtt_us != u32::MAX && interval_us < min_rtt_us) {
            return None;
        }
        Some(Rate {
            delivered: d.bytes.wrapping_sub(self.stamp.delivered),
            interval_us,
            prior_delivered: self.stamp.delivered,
            tx_in_flight: self.stamp.in_flight,
            lost: d.lost.wrapping_sub(self.stamp.lost),
            app_limited: self.app_limited,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_segments_in_an_rtt_and_the_owner_who_stops() {
        let mut d = Delivered::default();
        let stamps: Vec<Stamp> = (0..10).map(|i| d.stamp(1000, i * 100, 100)).collect();
        let mut s = Sampler::default();
        for (i, st) in stamps.iter().enumerate() {
            s.take(&mut d, st, 1000, false, 100, 21_000 + i as u32);
        }
        let r = s.rate(&d, 20_000).expect("a sample");
        assert_eq!((r.delivered, r.interval_us, r.tx_in_flight, r.lost), (1000, 20_009, 1000, 0));
        assert!(s.rate(&d, 30_000).is_none(), "shorter than the path");
        d.set_app_limited(200);
        assert!(d.is_app_limited());
        let st = d.stamp(30_000, 0, 300);
        Sampler::default().take(&mut d, &st, 30_000, true, 300, 50_000);
        d.end_app_limited();
        assert!(!d.is_app_limited(), "what was out then is delivered");
    }
}
