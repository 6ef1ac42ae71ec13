//! A sender: window, pacing, PRR, rate samples, what is lost.

use std::collections::VecDeque;

use dataplane::Time;

use super::super::{Ack, Algorithm, Cc, Congestion, Kind, Lost, Rate, Sent, Window};
use super::MSS;

/// What is out.
#[derive(Clone, Copy, Debug)]
struct Packet {
    id: u64,
    sent: u64,
    delivered: u64,
    delivered_time: u64,
    first_sent: u64,
    tx_in_flight: u32,
    lost_before: u64,
    app_limited: bool,
}

/// One sender.
pub(in super::super) struct Flow {
    pub cc: Cc,
    pub w: Window,
    pub delivered: u64,
    pub lost: u64,
    pub timeouts: u64,
    pub recoveries: u64,
    pub srtt_us: u32,
    pub in_flight: u32,
    /// What the owner has to send, bytes; endless if none.
    pub budget: Option<u64>,
    pub wake_at: u64,
    out: VecDeque<Packet>,
    next_id: u64,
    min_rtt_us: u32,
    delivered_time: u64,
    first_sent: u64,
    app_limited_until: u64,
    next_send: u64,
    last_event: u64,
    /// Recovery lasts until all before this is settled.
    recovery: Option<u64>,
    after_timeout: bool,
    prr_delivered: u64,
    prr_out: u64,
    prr_flight: u64,
    /// Highest in flight in this round of sending, and its end; what the last round says.
    out_max: u32,
    out_round: u64,
    limited: bool,
}

impl Flow {
    pub(super) fn new(algorithm: Algorithm, seed: u32, now: u64) -> Flow {
        Flow {
            cc: Cc::new(algorithm, seed),
            w: Window::new(MSS),
            delivered: 0,
            lost: 0,
            timeouts: 0,
            recoveries: 0,
            srtt_us: 0,
            in_flight: 0,
            budget: None,
            wake_at: u64::MAX,
            out: VecDeque::new(),
            next_id: 0,
            min_rtt_us: u32::MAX,
            delivered_time: now,
            first_sent: now,
            app_limited_until: 0,
            next_send: now,
            last_event: now,
            recovery: None,
            after_timeout: false,
            prr_delivered: 0,
            prr_out: 0,
            prr_flight: 0,
            out_max: 0,
            out_round: 0,
            limited: false,
        }
    }

    fn rto_ns(&self) -> u64 {
        (u64::from(self.srtt_us) * 2_000).max(200_000_000)
    }

    /// The next packet, if window and pacing let it go.
    pub(super) fn send(&mut self, now: Time) -> Option<u64> {
        if self.in_flight + MSS > self.w.cwnd {
            self.limited = true;
            return None;
        }
        // A burst of up to a millisecond may go at once.
        if self.w.pacing_rate > 0 && self.next_send > now.0 {
            return None;
        }
        if self.budget.is_some_and(|b| b < u64::from(MSS)) {
            self.app_limited_until = self.delivered + u64::from(self.in_flight).max(1);
            return None;
        }
        if let Some(b) = &mut self.budget {
            *b -= u64::from(MSS);
        }
        let app_limited = self.app_limited_until > self.delivered;
        if self.in_flight == 0 {
            self.delivered_time = now.0;
            self.first_sent = now.0;
            let s = Sent {
                now,
                in_flight: 0,
                total_delivered: self.delivered as u32,
                app_limited,
                idle_ns: now.0 - self.last_event,
                rto_ns: self.rto_ns(),
                mss: MSS,
            };
            self.cc.on_sent(&mut self.w, &s);
        }
        self.in_flight += MSS;
        self.last_event = now.0;
        let id = self.next_id;
        self.next_id += 1;
        self.out.push_back(Packet {
            id,
            sent: now.0,
            delivered: self.delivered,
            delivered_time: self.delivered_time,
            first_sent: self.first_sent,
            tx_in_flight: self.in_flight,
            lost_before: self.lost,
            app_limited,
        });
        if let Some(ns) = (u64::from(MSS) * 1_000_000_000).checked_div(self.w.pacing_rate) {
            self.next_send = self.next_send.max(now.0) + ns;
        }
        self.out_max = self.out_max.max(self.in_flight);
        self.prr_out += u64::from(MSS);
        Some(id)
    }

    /// When it wants to be called next.
    pub(super) fn next_wake(&self, now: u64) -> u64 {
        let rto = if self.in_flight > 0 { self.last_event + self.rto_ns() } else { u64::MAX };
        let blocked = self.in_flight + MSS > self.w.cwnd || self.w.pacing_rate == 0;
        let paced = if blocked || self.budget.is_some_and(|b| b < u64::from(MSS)) {
            u64::MAX
        } else {
            self.next_send
        };
        rto.min(paced).max(now + 1)
    }

    pub(super) fn on_timer(&mut self, now: Time) {
        if self.in_flight == 0 || now.0 < self.last_event + self.rto_ns() {
            return;
        }
        self.timeouts += 1;
        self.last_event = now.0;
        let in_flight = self.in_flight;
        while let Some(p) = self.out.pop_front() {
            self.lose(now, p);
        }
        let first = !self.after_timeout;
        let c = Congestion { now, kind: Kind::Rto { first }, in_flight, srtt_us: self.srtt_us, mss: MSS };
        self.cc.on_congestion(&mut self.w, &c);
        self.recovery = Some(self.next_id);
        self.after_timeout = true;
    }

    fn lose(&mut self, now: Time, p: Packet) {
        self.in_flight -= MSS;
        self.lost += u64::from(MSS);
        if let Some(b) = &mut self.budget {
            *b += u64::from(MSS);
        }
        let l = Lost {
            now,
            bytes: MSS,
            tx_in_flight: p.tx_in_flight,
            lost_since: (self.lost - p.lost_before) as u32,
            prior_delivered: p.delivered as u32,
            app_limited: p.app_limited,
            mss: MSS,
        };
        self.cc.on_lost(&mut self.w, &l);
    }

    pub(super) fn on_ack(&mut self, now: Time, id: u64) {
        let Ok(i) = self.out.binary_search_by_key(&id, |p| p.id) else { return };
        let p = self.out.remove(i).unwrap();
        let in_flight_before = self.in_flight;
        self.in_flight -= MSS;
        self.last_event = now.0;
        self.delivered += u64::from(MSS);
        let ack_elapsed = now.0 - p.delivered_time;
        let send_elapsed = p.sent - p.first_sent;
        self.delivered_time = now.0;
        self.first_sent = p.sent;
        let rtt_us = ((now.0 - p.sent) / 1000) as u32;
        self.min_rtt_us = self.min_rtt_us.min(rtt_us);
        self.srtt_us = if self.srtt_us == 0 { rtt_us } else { (self.srtt_us * 7 + rtt_us) / 8 };

        // Three later ones were acknowledged: as acknowledgments are in order, that is by number.
        let mut lost = 0;
        let flight = self.in_flight + MSS;
        while let Some(first) = self.out.front().copied()
            && first.id + 3 <= id
        {
            self.out.pop_front();
            self.lose(now, first);
            lost += MSS;
        }
        if lost > 0 && self.recovery.is_none() {
            self.recoveries += 1;
            self.recovery = Some(self.next_id);
            (self.prr_delivered, self.prr_out, self.prr_flight) = (0, 0, u64::from(flight));
            let c = Congestion { now, kind: Kind::Loss, in_flight: flight, srtt_us: self.srtt_us, mss: MSS };
            self.cc.on_congestion(&mut self.w, &c);
        }
        if let Some(end) = self.recovery
            && self.out.front().is_none_or(|p| p.id >= end)
            && lost == 0
        {
            self.recovery = None;
            self.after_timeout = false;
            self.cc.on_recovered(&mut self.w, now, MSS);
        }
        if id >= self.out_round {
            self.out_round = self.next_id;
            self.limited = self.out_max + MSS > self.w.cwnd;
            self.out_max = self.in_flight;
        }
        let slow_start = self.w.cwnd < self.w.ssthresh;
        let interval = ack_elapsed.max(send_elapsed) / 1000;
        let a = Ack {
            now,
            delivered: MSS,
            acked: MSS,
            lost,
            rtt_us,
            srtt_us: self.srtt_us,
            min_rtt_us: self.min_rtt_us,
            in_flight_before,
            in_flight: self.in_flight,
            snd_nxt: (self.next_id * u64::from(MSS)) as u32,
            snd_una: (self.out.front().map_or(self.next_id, |p| p.id) * u64::from(MSS)) as u32,
            total_delivered: self.delivered as u32,
            total_lost: self.lost as u32,
            limited: self.limited || (slow_start && self.w.cwnd < 2 * self.out_max),
            in_recovery: self.recovery.is_some(),
            rate: Some(Rate {
                delivered: (self.delivered - p.delivered) as u32,
                interval_us: interval.max(1) as u32,
                prior_delivered: p.delivered as u32,
                tx_in_flight: p.tx_in_flight,
                lost: (self.lost - p.lost_before) as u32,
                app_limited: p.app_limited,
            }),
            mss: MSS,
        };
        self.cc.on_ack(&mut self.w, &a);
        if self.recovery.is_some() && !self.after_timeout && self.cc.prr() {
            self.prr();
        }
    }

    /// RFC 6937, with the slow-start bound.
    fn prr(&mut self) {
        self.prr_delivered += u64::from(MSS);
        let (ssthresh, flight) = (u64::from(self.w.ssthresh), u64::from(self.in_flight));
        let more = if flight > ssthresh {
            (self.prr_delivered * ssthresh).div_ceil(self.prr_flight).saturating_sub(self.prr_out)
        } else {
            let limit = self.prr_delivered.saturating_sub(self.prr_out).max(u64::from(MSS)) + u64::from(MSS);
            limit.min(ssthresh - flight)
        };
        self.w.cwnd = (flight + more) as u32;
    }
}
