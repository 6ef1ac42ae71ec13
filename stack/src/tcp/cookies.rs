//! SYN cookies: handshakes without a control block, when too many are under way (RFC 4987 3.6).
//!
//! ```text
//!  our ISN        slot 2 │ MSS 3 │ MAC 27     of addresses, ports, the peer's ISN, MSS and slot, under a secret
//!  our timestamp  clock, in steps of 64 ms │ ECN 1 │ SACK 1 │ window scale 4 (15: none)
//! ```
//!
//! What a SYN asks for is kept by the peer, in the numbers that it must give back: its ACK makes the connection. Without
//! timestamps there is no room for window scale, SACK and ECN, and the connection goes without. A slot is 65.5 s; an
//! answer counts in the slot of its question and in the next (and in the one before, for clocks of two nodes that differ).
//! The secrets are two, so that nodes that share them can change them one after the other: the first makes cookies,
//! both are taken. Guessing right takes 2^27 tries for each connection.
//!
//! While fewer than half of the places for half-open connections are taken, nothing of this happens; above three
//! quarters every SYN gets a cookie, until it is fewer than half again.

use dataplane::{Ctr, Packet, Time, TxQueue, sip};

use super::input::Verdict;
use super::options::{OPTIONS_MAX, Options, SynOptions, Timestamps};
use super::segment::{Header, Segment, bits};
use super::tcb::Flags;
use super::timestamps::clock_ms;
use super::{Seq, Tcp};
use crate::addr::Tuple;
use crate::frame::Leaves;
use crate::net::Net;
use crate::parse::source_mac;

/// When SYNs are answered by cookies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CookieUse {
    /// Never: what is too much is dropped.
    Never,
    /// When too many handshakes are under way.
    #[default]
    UnderPressure,
    /// Always.
    Always,
}

/// Two secrets for cookies: new ones are made with the first, and taken by both.
pub type CookieSecrets = [[u64; 2]; 2];

/// The MSS that a cookie can tell of, at most; each SYN is given the next one below its own. The last for IPv6: 8,940.
const MSS: [u16; 8] = [88, 536, 1220, 1360, 1400, 1440, 1460, 8960];
const MSS_JUMBO_V6: u16 = 8940;
const MAC_BITS: u32 = 27;
/// 65.5 s.
const SLOT_SHIFT: u32 = 16;
/// Low bits of the timestamp that tell of options.
const TS_BITS: u32 = 6;
const TS_NO_SCALE: u32 = 15;
const TS_SACK: u32 = 1 << 4;
/// ECN was asked for, and agreed to.
const TS_ECN: u32 = 1 << 5;
/// How long after the last cookie an ACK may bring one back, in milliseconds.
const BACK_MAX_MS: u64 = 2 << SLOT_SHIFT;

/// What one core keeps of its cookies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cookies {
    secrets: CookieSecrets,
    /// Unix time at our clock's start, for nodes that share secrets.
    epoch_ms: u64,
    active: bool,
    last_sent: Option<Time>,
    /// Others make cookies that we must know: nodes, or cores.
    shared: bool,
}

impl Cookies {
    pub(super) fn new(secrets: Option<CookieSecrets>, keys: &[u64; 4], epoch_ms: u64) -> Cookies {
        let own = |n| sip::words([keys[2], keys[3]], [n, 3]);
        Cookies {
            secrets: secrets.unwrap_or([[own(0), own(1)]; 2]),
            epoch_ms,
            active: false,
            last_sent: None,
            shared: secrets.is_some(),
        }
    }

    fn slot(&self, now: Time) -> u64 {
        (self.epoch_ms + now.0 / 1_000_000) >> SLOT_SHIFT
    }

    /// The cookie for a SYN with `irs` and this MSS.
    #[inline(always)]
    fn make(&self, t: &Tuple, irs: Seq, mss: u16, now: Time) -> Seq {
        let largest = if t.local.is_v4() { MSS[7] } else { MSS_JUMBO_V6 };
        // The last that is not above it, or the first.
        let index = MSS[1..7].iter().map(|m| u32::from(*m <= mss)).sum::<u32>() + u32::from(mss >= largest);
        let slot = self.slot(now);
        Seq((slot as u32 & 3) << 30 | index << MAC_BITS | mac(&self.secrets[0], t, irs, slot, index))
    }

    /// The MSS that a cookie tells of; `None` when it is not ours, or too old.
    fn open(&self, t: &Tuple, irs: Seq, cookie: Seq, now: Time) -> Option<u16> {
        let current = self.slot(now);
        let slot = [current, current.wrapping_sub(1), current + 1]
            .into_iter()
            .find(|s| *s as u32 & 3 == cookie.0 >> 30)?;
        let index = cookie.0 >> MAC_BITS & 7;
        let sent = cookie.0 & ((1 << MAC_BITS) - 1);
        let mut secrets = self.secrets.iter();
        secrets.any(|s| mac_of(s, t, irs, slot, index) == sent).then(|| table(t)[index as usize])
    }

    /// Whether an ACK may bring a cookie back.
    fn expects(&self, now: Time) -> bool {
        self.shared || self.last_sent.is_some_and(|t| now.since_ns(t) < BACK_MAX_MS * 1_000_000)
    }
}

fn table(t: &Tuple) -> [u16; 8] {
    let mut all = MSS;
    if !t.local.is_v4() {
        all[7] = MSS_JUMBO_V6;
    }
    all
}

#[inline(always)]
fn mac(secret: &[u64; 2], t: &Tuple, irs: Seq, slot: u64, index: u32) -> u32 {
    let half = |a: &[u8; 16], i: usize| {
        let mut b = [0; 8];
        b.copy_from_slice(&a[i..i + 8]);
        u64::from_le_bytes(b)
    };
    let (l, r) = (&t.local.0, &t.remote.0);
    let ports = u64::from(t.local_port) | u64::from(t.remote_port) << 16 | u64::from(irs.0) << 32;
    let what = slot << 3 | u64::from(index);
    // The message's length is in the top byte of the last word, so that none of IPv4 is one of IPv6.
    if t.local.is_v4() && t.remote.is_v4() {
        let (l, r) = (half(l, 8) >> 32, half(r, 8) & 0xffff_ffff_0000_0000);
        return (sip::words(*secret, [l | r, ports, what & !(0xff << 56) | 24 << 56]) >> 37) as u32;
    }
    (sip::words(*secret, [half(l, 0), half(l, 8), half(r, 0), half(r, 8), ports, what]) >> 37) as u32
}

/// [`mac`], where it is not made by the million.
#[inline(never)]
fn mac_of(secret: &[u64; 2], t: &Tuple, irs: Seq, slot: u64, index: u32) -> u32 {
    mac(secret, t, irs, slot, index)
}

impl Tcp {
    /// Whether a SYN gets a cookie now: by how many handshakes are under way, with hysteresis.
    pub(super) fn uses_cookies(&mut self) -> bool {
        let (open, most) = (self.half_open, self.half_open_max);
        match self.config.cookies {
            CookieUse::Never => return false,
            CookieUse::Always => return true,
            CookieUse::UnderPressure => {}
        }
        if self.cookies.active {
            self.cookies.active = open >= most / 2 && open > 0;
        } else {
            self.cookies.active = open >= most - most / 4;
        }
        self.counters.set(Ctr::TcpCookiesActive, self.cookies.active.into());
        self.cookies.active
    }

    /// The same, for the gauge: when no SYN comes, nothing else looks.
    pub(super) fn set_cookies_gauge(&self) {
        let on = match self.config.cookies {
            CookieUse::Never => false,
            CookieUse::Always => true,
            CookieUse::UnderPressure => {
                self.cookies.active && self.half_open > 0 && self.half_open >= self.half_open_max / 2
            }
        };
        self.counters.set(Ctr::TcpCookiesActive, on.into());
    }

    /// Takes other secrets for cookies: those of the second are still taken.
    pub fn set_cookie_secrets(&mut self, secrets: CookieSecrets) {
        self.cookies.secrets = secrets;
        self.cookies.shared = true;
    }

    /// Answers a SYN, and forgets it.
    #[inline(always)] // In a flood this is what is done.
    #[allow(clippy::too_many_arguments)] // One segment, parsed in steps.
    pub(super) fn send_cookie(
        &mut self,
        net: &mut Net,
        p: &Packet,
        seg: &Segment,
        tuple: &Tuple,
        hash: u64,
        tx: &mut [TxQueue],
        now: Time,
    ) -> Verdict {
        let asked = SynOptions::read(p);
        let (default, headers) = if tuple.local.is_v4() { (536, 40) } else { (1220, 60) };
        let iss = self.cookies.make(tuple, seg.seq, asked.mss.unwrap_or(default), now);
        let port = p.meta().port;
        let iface = &net.ifaces[usize::from(port)];
        let mut answer =
            SynOptions { mss: Some(self.config.our_mss(iface.mtu, headers)), ..SynOptions::default() };
        let mut flags = bits::SYN | bits::ACK;
        if let Some(ts) = asked.timestamps {
            let ecn = self.agrees_to_ecn(seg);
            let mut low = u32::from(asked.window_scale.unwrap_or(TS_NO_SCALE as u8));
            low |= if asked.sack { TS_SACK } else { 0 } | if ecn { TS_ECN } else { 0 };
            let clock = clock_ms(now).wrapping_add(self.ts_offset(hash));
            let mut val = clock & !((1 << TS_BITS) - 1) | low;
            if val.wrapping_sub(clock) as i32 > 0 {
                val = val.wrapping_sub(1 << TS_BITS); // Never ahead of what the connection will send.
            }
            answer.timestamps = Some(Timestamps { val, ecr: ts.val });
            answer.window_scale = asked.window_scale.map(|_| self.config.window_scale);
            answer.sack = asked.sack;
            flags |= if ecn { bits::ECE } else { 0 };
        }
        let Some(out) = net.headers.alloc() else {
            self.counters.inc(Ctr::TcpNoHeader);
            return Err(Ctr::DropTcpHalfOpenFull);
        };
        let mut room = [0; OPTIONS_MAX];
        let n = answer.write(&mut room);
        let h = Header {
            src_port: tuple.local_port,
            dst_port: tuple.remote_port,
            seq: iss,
            ack: seg.seq + 1,
            bits: flags,
            window: self.config.first_window(),
        };
        let leaves = Leaves { port, mac: Some(&source_mac(p)), ecn: 0 };
        self.cookies.last_sent = Some(now);
        self.counters.inc(Ctr::TcpCookiesSent);
        self.counters.inc(Ctr::TcpSegmentsOut);
        super::emit::send(net, out, (&h, &room, n), tuple, (&leaves, hash as u32), tx, now);
        Ok(())
    }

    /// An ACK without a connection: makes the one whose cookie it brings back, as it would be behind its SYN. `None`
    /// when it brings none.
    pub(super) fn take_cookie(
        &mut self,
        net: &mut Net,
        p: &Packet,
        seg: &Segment,
        tuple: &Tuple,
        hash: u64,
        now: Time,
    ) -> Option<Result<super::FlowId, Ctr>> {
        let answers = seg.has(bits::ACK) && !seg.has(bits::SYN | bits::RST);
        if !answers || !self.cookies.expects(now) {
            return None;
        }
        let listener = self.listener_for(&tuple.local, tuple.local_port)?;
        let (irs, cookie) = (seg.seq - 1, seg.ack - 1);
        let Some(mss) = self.cookies.open(tuple, irs, cookie, now) else {
            self.counters.inc(Ctr::TcpCookiesRefused);
            return None;
        };
        if !self.listeners[usize::from(listener)].open {
            return None; // We drain: a RST tells it.
        }
        let ts = Options::read(p).timestamps;
        let mut said = SynOptions { mss: Some(mss), timestamps: ts, ..SynOptions::default() };
        let mut ecn = false;
        if let Some(ts) = ts {
            let scale = ts.ecr & 15;
            said.window_scale = (scale != TS_NO_SCALE).then_some(scale.min(14) as u8);
            said.sack = ts.ecr & TS_SACK != 0;
            ecn = ts.ecr & TS_ECN != 0 && self.config.ecn.answers();
        }
        let syn = Segment { seq: irs, ack: Seq(0), bits: bits::SYN, window: seg.window, len: 0 };
        let id = match self.begin(net, p, &syn, &said, (*tuple, hash), listener, cookie, now) {
            Ok(id) => id,
            Err(full) => return Some(Err(full)),
        };
        self.time_wait.remove(hash);
        let window = self.config.first_window();
        let t = &mut self.table.flows[id];
        if let Some(ts) = ts {
            // Go on from the clock that made the cookie, which may be another node's.
            let behind = t.ts_now(now).wrapping_sub(ts.ecr);
            if u64::from(behind) > BACK_MAX_MS {
                t.ts_offset = ts.ecr.wrapping_sub(clock_ms(now));
            }
        }
        if ecn {
            t.flags.set(Flags::ECN);
        }
        // What our SYN-ACK said.
        t.rcv_adv = t.rcv_nxt + u32::from(window);
        t.snd_nxt = cookie + 1;
        self.counters.inc(Ctr::TcpCookiesAccepted);
        Some(Ok(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;
    use std::net::IpAddr;

    fn tuple(v6: bool) -> Tuple {
        let a = |s: &str| Addr::from(s.parse::<IpAddr>().unwrap());
        let (l, r) = if v6 { ("fd00::1", "fd00::2") } else { ("10.0.0.1", "10.0.0.2") };
        Tuple { local: a(l), remote: a(r), local_port: 80, remote_port: 7000 }
    }

    #[test]
    fn a_cookie_tells_its_mss_for_two_slots_and_to_nobody_else() {
        let c = Cookies::new(None, &[1, 2, 3, 4], 0);
        for v6 in [false, true] {
            let t = tuple(v6);
            let now = Time::from_ms(10 << SLOT_SHIFT);
            for (mss, told) in [
                (0, 88),
                (88, 88),
                (535, 88),
                (536, 536),
                (1459, 1440),
                (1460, 1460),
                (8939, 1460),
                (8940, if v6 { 8940 } else { 1460 }),
                (65_535, if v6 { 8940 } else { 8960 }),
            ] {
                let cookie = c.make(&t, Seq(77), mss, now);
                let after = |ms: u64| c.open(&t, Seq(77), cookie, Time::from_ms((10 << SLOT_SHIFT) + ms));
                assert_eq!((after(0), after((2 << SLOT_SHIFT) - 1)), (Some(told), Some(told)));
                assert_eq!((after(2 << SLOT_SHIFT), after(3 << SLOT_SHIFT)), (None, None));
                assert_eq!(c.open(&t, Seq(78), cookie, now), None, "another ISN");
                assert_eq!(c.open(&Tuple { remote_port: 7001, ..t }, Seq(77), cookie, now), None);
                assert_eq!(c.open(&tuple(!v6), Seq(77), cookie, now), None);
                for bit in 0..32 {
                    assert_eq!(c.open(&t, Seq(77), Seq(cookie.0 ^ 1 << bit), now), None, "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn nodes_share_secrets_and_change_them_one_after_the_other() {
        let (old, new) = ([1, 2], [3, 4]);
        let node = |secrets, epoch_ms| Cookies::new(Some(secrets), &[9; 4], epoch_ms);
        let (t, irs) = (tuple(false), Seq(5));
        // The other one has run for a day longer; its wall clock is two seconds behind.
        let a = node([old, old], 1_700_000_000_000);
        let (day, now) = (86_400_000, Time::from_ms(50_000));
        let there = Time::from_ms(50_000 + day - 2000);
        for (b, told) in [([old, old], true), ([old, new], true), ([new, old], true), ([new, new], false)] {
            let b = node(b, 1_700_000_000_000 - day);
            let cookie = a.make(&t, irs, 1460, now);
            assert_eq!(b.open(&t, irs, cookie, there), told.then_some(1460));
        }
        assert!(a.expects(now), "whoever shares secrets gets answers to what others have sent");
    }
}
