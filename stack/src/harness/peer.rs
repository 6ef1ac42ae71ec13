//! The world's peer where it knows what it does: it answers SYN-ACKs (those with cookies too), tells how long the path
//! is, and in the end behaves, so that whatever was done before must come to its end.

use dataplane::Time;

use super::opinion;
use super::world::World;
use super::{OUR_MAC, PEER_MAC};
use crate::addr::Tuple;
use crate::parse::protocol;
use crate::tcp::cc::Algorithm;
use crate::tcp::{Congestion, CookieUse, Flags, State, Tcb, TcpConfig};

/// Rounds in which the peer behaves: many more than what is queued at most takes.
const HEAL_ROUNDS: u32 = 3000;
/// Virtual time of one.
const HEAL_NS: u64 = 300_000_000;

/// What an input's second byte says of the engine.
pub fn configure(c: &mut TcpConfig, by: u8) {
    c.cookies = [CookieUse::UnderPressure, CookieUse::UnderPressure, CookieUse::Always, CookieUse::Never]
        [usize::from(by & 3)];
    let algorithms = [Algorithm::Cubic, Algorithm::Bbr, Algorithm::Reno, Algorithm::Cubic];
    c.congestion = Congestion::all(algorithms[usize::from(by >> 2 & 3)]);
    if by & 16 != 0 {
        c.ecn = crate::EcnUse::Always;
    }
    if by & 32 != 0 {
        c.mss_max = 300;
    }
}

/// A SYN-ACK of ours.
#[derive(Clone, Copy)]
pub struct SynAck {
    local: u16,
    remote: u16,
    seq: u32,
    ack: u32,
    timestamp: Option<u32>,
}

impl SynAck {
    /// Reads a frame that was found to be sound.
    pub fn read(f: &[u8]) -> Option<SynAck> {
        let (proto, tcp) = match f[12..14] {
            [8, 0] => (f[23], &f[34..]),
            [0x86, 0xdd] => (f[20], &f[54..]),
            _ => return None,
        };
        if proto != protocol::TCP || tcp[13] & 0x12 != 0x12 {
            return None;
        }
        let half = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let word = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
        let end = usize::from(tcp[12] >> 4) * 4;
        let at = (20..end.saturating_sub(9)).find(|i| tcp[*i..*i + 2] == [8, 10]);
        Some(SynAck {
            local: half(0),
            remote: half(2),
            seq: word(4),
            ack: word(8),
            timestamp: at.map(|i| word(i + 2)),
        })
    }
}

/// ICMP's word that a segment of ours, with this number, was longer than the path takes; or, in IPv4, that there is no way.
pub fn too_big(tuple: &Tuple, seq: u32, mtu: u16, unreachable: bool) -> Vec<u8> {
    let mut tcp = [0; 20];
    tcp[..2].copy_from_slice(&tuple.local_port.to_be_bytes());
    tcp[2..4].copy_from_slice(&tuple.remote_port.to_be_bytes());
    tcp[4..8].copy_from_slice(&seq.to_be_bytes());
    let (us, peer) = (tuple.local.wire(), tuple.remote.wire());
    let ip4 = |proto: u8, src: &[u8], dst: &[u8], l4: &[u8]| {
        let total = (20 + l4.len()) as u16;
        [&[0x45, 0][..], &total.to_be_bytes(), &[0, 0, 0x40, 0, 64, proto, 0, 0], src, dst, l4].concat()
    };
    let ip6 = |next: u8, src: &[u8], dst: &[u8], l4: &[u8]| {
        [&[0x60, 0, 0, 0][..], &(l4.len() as u16).to_be_bytes(), &[next, 64], src, dst, l4].concat()
    };
    let (kind, ip): ([u8; 2], Vec<u8>) = if tuple.local.is_v4() {
        let quoted = ip4(protocol::TCP, us, peer, &tcp);
        let said =
            [&[3, if unreachable { 1 } else { 4 }, 0, 0, 0, 0][..], &mtu.to_be_bytes(), &quoted].concat();
        ([8, 0], ip4(1, peer, us, &said))
    } else {
        let quoted = ip6(protocol::TCP, us, peer, &tcp);
        let said = [&[2, 0, 0, 0][..], &u32::from(mtu).to_be_bytes(), &quoted].concat();
        ([0x86, 0xdd], ip6(58, peer, us, &said))
    };
    let mut f = [&OUR_MAC[..], &PEER_MAC, &kind, &ip].concat();
    opinion::mend_checksums(&mut f);
    f
}

impl World<'_, '_> {
    /// The ACK of the last SYN-ACK, whether a connection is behind it or a cookie; damaged by `damage`.
    pub(super) fn answer_syn_ack(&mut self, damage: u8) {
        let Some(s) = self.syn_ack else { return };
        let (mut seq, mut ack, mut ecr) = (s.ack, s.seq.wrapping_add(1), s.timestamp.unwrap_or(0));
        match damage & 0x1f {
            1 => seq = seq.wrapping_add(u32::from(damage)),
            2 => ack ^= 1 << (damage >> 3),
            3 => ecr ^= 1 << (damage >> 3),
            4 => ecr = ecr.wrapping_mul(u32::from(damage)),
            _ => {}
        }
        let mut o = vec![];
        if s.timestamp.is_some() && damage & 0x1f != 5 {
            o.extend([1, 1, 8, 10, 0, 0, 0, 101]);
            o.extend(ecr.to_be_bytes());
        }
        (self.last.0, self.last.1) = (s.remote, s.local);
        let len = if damage & 0x20 != 0 { usize::from(damage) } else { 0 };
        self.tcp(seq, ack, 16, 0xffff, len, &o);
    }

    /// ICMP says that the path of a connection takes no more than so much; often of something that is out.
    pub(super) fn too_big(&mut self) {
        let (at, mtu, how) = (self.input.byte(), self.input.word(), self.input.byte());
        let Some(t) = self.flow_at(usize::from(at)) else { return };
        let mut seq = t.snd_una.0;
        if how & 3 == 1 {
            seq = t.snd_nxt.0.wrapping_sub(u32::from(how));
        }
        let f = too_big(&t.tuple, seq, mtu % 2000, how & 0xf0 == 0xf0);
        self.wire.send(&f);
    }

    /// An honest peer's ACK of everything that was sent to it, with a wide window.
    pub(super) fn good_ack(&mut self, at: usize) {
        let now: Time = self.now;
        let Some(t) = self.flow_at(at) else { return };
        if matches!(t.state, State::Closed | State::SynSent) {
            return;
        }
        // What came out of order may have been the last word about the window.
        let (seq, ack) = (t.rcv_nxt.max(t.snd_wl1).0, t.snd_nxt.0);
        let mut o = vec![];
        if t.flags.has(Flags::TIMESTAMPS) {
            o.extend([1, 1, 8, 10]);
            o.extend(t.ts_recent.to_be_bytes());
            o.extend(t.ts_now(now).to_be_bytes());
        }
        (self.last.0, self.last.1) = (t.tuple.remote_port, t.tuple.local_port);
        self.tcp(seq, ack, 16, 0xffff, 0, &o);
    }

    /// The peer behaves: what the connections have queued goes out and is acknowledged, or a connection is stuck.
    pub(super) fn heal(&mut self) {
        self.pass();
        for _ in 0..HEAL_ROUNDS {
            let flows = self.core.pipeline.stack.tcp.flows().count();
            let waits = (0..flows).filter(|n| {
                self.flow_at(*n).is_some_and(|t| {
                    !matches!(t.state, State::Closed | State::SynSent) && (t.has_unsent() || t.flight() > 0)
                })
            });
            let waits: Vec<usize> = waits.collect();
            if waits.is_empty() {
                return;
            }
            for n in waits {
                self.good_ack(n);
            }
            self.pass();
            self.time(HEAL_NS);
        }
        panic!("stuck: {:?}", self.describe());
    }

    /// The connections, for the one who looks for what went wrong.
    pub(super) fn describe(&self) -> Vec<String> {
        let tcp = &self.core.pipeline.stack.tcp;
        tcp.flows().map(|id| describe(tcp.flow(id))).collect()
    }
}

/// A connection, for the one who looks for what went wrong.
pub fn describe(t: &Tcb) -> String {
    let left = t.queue_end.since(t.snd_nxt) as i32;
    format!(
        "{} {:?} una {:?} nxt {:?} unsent {left} wnd {} cwnd {} lost {:?} pipe {} mss {} rexmit {} pace {} probe {} owed {}",
        t.state.name(),
        t.flags,
        t.snd_una,
        t.snd_nxt,
        t.snd_wnd,
        t.window.cwnd,
        t.out.next_lost(),
        t.pipe(),
        t.mss,
        t.rexmit_at,
        t.pace_at,
        t.probe_at,
        t.acks_owed,
    )
}
