//! What we send in the storm: looked at frame by frame, and SYN-ACKs remembered, so that the storm can answer them.

use dataplane::Packet;
use dataplane::rng::Rng;

use super::frame::{Ends, is_ramp};
use crate::addr::Addr;
use crate::harness::opinion;
use crate::parse::{be16, protocol};
use crate::tcp::Seq;

/// One in so many is looked at to its last byte, checksums and all.
const WHOLE: u64 = 32;
/// SYN-ACKs that are remembered.
const REMEMBERED: usize = 64;

/// A SYN-ACK of ours.
#[derive(Clone, Copy, Debug, Default)]
pub struct SynAck {
    pub ends: Ends,
    pub seq: u32,
    pub ack: u32,
    pub timestamp: Option<u32>,
}

#[derive(Default)]
pub struct Watch {
    pub sent: u64,
    pub syn_acks: Vec<SynAck>,
    scratch: Vec<u8>,
}

impl Watch {
    /// Looks at a frame that we send; `offload`: its checksum is left to the port.
    pub fn look(&mut self, p: &Packet, offload: bool, rng: &mut Rng) {
        self.sent += 1;
        let f = p.head();
        let (proto, l4, us, peer) = match f[12..14] {
            [8, 0] => (f[23], 34, Addr::v4(&f[26..30]), Addr::v4(&f[30..34])),
            [0x86, 0xdd] => (f[20], 54, Addr::v6(&f[22..38]), Addr::v6(&f[38..54])),
            _ => return, // ARP, ICMPv6 behind extensions: the slow fuzzing looks at them.
        };
        if proto == protocol::TCP {
            let t = &f[l4..];
            let word = |at: usize| u32::from_be_bytes([t[at], t[at + 1], t[at + 2], t[at + 3]]);
            let (seq, bits, header) = (word(4), t[13], usize::from(t[12] >> 4) * 4);
            if bits & 0x12 == 0x12 {
                let at = (20..header.saturating_sub(9)).find(|i| t[*i..*i + 2] == [8, 10]);
                let ends = Ends { peer, us, peer_port: be16(t, 2), our_port: be16(t, 0) };
                let s = SynAck { ends, seq, ack: word(8), timestamp: at.map(|i| word(i + 2)) };
                match self.syn_acks.len() < REMEMBERED {
                    true => self.syn_acks.push(s),
                    false => self.syn_acks[rng.below(REMEMBERED as u64) as usize] = s,
                }
            }
            let mut at = Seq(seq);
            for part in std::iter::once(&t[header..]).chain(p.tail().iter().map(|s| &**s)) {
                assert!(is_ramp(at.0, part), "sent at {at:?} what does not belong there: {f:x?}");
                at += part.len() as u32;
            }
        }
        if !offload && rng.below(WHOLE) == 0 {
            self.scratch.resize(p.total_len(), 0);
            p.copy_to(&mut self.scratch).expect("as long as it says");
            opinion::is_sound(&self.scratch);
        }
    }
}
