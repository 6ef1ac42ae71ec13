//! One end of a TCP connection, and its segments: in order, without options but the segment size. On a wire that may
//! lose something, what is not acknowledged is sent again after a while, from the oldest byte on.

use std::collections::VecDeque;
use std::net::IpAddr;

use dataplane::Time;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;
const PUSH: u8 = 8;
/// Until something is sent again; twice as long each time, up to the second.
const AGAIN_NS: u64 = 20_000_000;
const AGAIN_MAX_NS: u64 = 640_000_000;
/// Segments that are sent again at once.
const AGAIN_SEGMENTS: usize = 4;

/// A segment, as far as we look at it.
#[derive(Clone, Default, Debug)]
pub struct Segment<P = Vec<u8>> {
    pub seq: u32,
    pub ack: u32,
    pub bits: u8,
    pub window: u32,
    pub payload: P,
}

impl<P: AsRef<[u8]>> Segment<P> {
    /// What it takes of the sequence space.
    pub fn room(&self) -> u32 {
        self.payload.as_ref().len() as u32 + u32::from(self.bits & FIN != 0) + u32::from(self.bits & SYN != 0)
    }
}

#[derive(Default)]
pub struct End {
    /// The origin's address; `None`: the one that all have.
    pub at: Option<IpAddr>,
    pub snd: u32,
    pub una: u32,
    pub window: u32,
    pub rcv: u32,
    pub open: bool,
    pub out: VecDeque<u8>,
    /// To be sent when `out` is empty.
    pub fin: bool,
    pub owes_ack: bool,
    /// What has come and was not taken.
    pub input: Vec<u8>,
    pub ended: bool,
    pub reset: bool,
    /// We have nothing to do with it any more.
    pub gone: bool,
    /// Acknowledges nothing that comes: a client that has stopped reading.
    pub deaf: bool,
    /// Bytes for which there is room, of a client that reads slowly; of others, there is always room.
    pub room: Option<u32>,
    /// When something is sent again, on a wire that may lose it.
    pub due: Option<Time>,
    /// Sent and not acknowledged, on such a wire; and how often it was in vain.
    unacked: VecDeque<u8>,
    vain: u32,
    fin_sent: bool,
}

impl End {
    pub fn new(seq: u32) -> End {
        End { snd: seq, una: seq, ..End::default() }
    }

    /// The next segment with these bits. What it carries counts as sent.
    pub fn segment(&mut self, bits: u8, payload: Vec<u8>) -> Segment {
        let s = self.segment_at(self.snd, bits, payload);
        self.fin_sent |= bits & FIN != 0;
        self.snd = self.snd.wrapping_add(s.room());
        s
    }

    fn segment_at(&self, seq: u32, bits: u8, payload: Vec<u8>) -> Segment {
        let window = self.room.map_or(0xffff, |r| r.min(0xffff));
        Segment { seq, ack: self.rcv, bits, window, payload }
    }

    fn in_flight(&self) -> u32 {
        self.snd.wrapping_sub(self.una)
    }

    /// Sends what the window and `room` allow, then FIN or what is owed.
    pub fn flush(&mut self, mss: usize, lossy: bool, mut room: usize, mut send: impl FnMut(Segment)) {
        if !self.open || self.fin_sent && !self.owes_ack {
            return;
        }
        while !self.out.is_empty() && room > 0 && !self.fin_sent {
            let n = self.out.len().min(mss).min(self.window.saturating_sub(self.in_flight()) as usize);
            if n == 0 {
                break;
            }
            // Two copies at most: byte by byte, as an iterator would, this is half of all the time.
            let (first, second) = self.out.as_slices();
            let of_first = n.min(first.len());
            let payload = [&first[..of_first], &second[..n - of_first]].concat();
            self.out.drain(..n);
            if lossy {
                self.unacked.extend(&payload);
            }
            send(self.segment(ACK | PUSH, payload));
            self.owes_ack = false;
            room -= 1;
        }
        if room == 0 {
            // It is owed until there is room.
        } else if self.fin && self.out.is_empty() {
            send(self.segment(ACK | FIN, Vec::new()));
            (self.fin, self.owes_ack) = (false, false);
        } else if std::mem::take(&mut self.owes_ack) && !self.deaf {
            send(self.segment(ACK, Vec::new()));
        }
    }

    /// Sends again what is due, on a wire that may lose it. A client that hears nothing asks whether the other end is
    /// still there: a reset may have been lost as well.
    pub fn again(&mut self, now: Time, mss: usize, is_origin: bool, mut send: impl FnMut(Segment)) {
        let waits = self.in_flight() > 0;
        if !waits && (is_origin || self.ended) {
            (self.due, self.vain) = (None, 0);
            return;
        }
        let Some(due) = self.due else {
            let after = if waits { (AGAIN_NS << self.vain.min(5)).min(AGAIN_MAX_NS) } else { AGAIN_MAX_NS };
            self.due = Some(now.plus_ns(after));
            return;
        };
        if now < due {
            return;
        }
        self.due = None;
        self.vain += 1;
        if !waits {
            send(self.segment_at(self.snd.wrapping_sub(1), ACK, Vec::new()));
        } else if !self.open {
            send(self.segment_at(self.una, SYN, Vec::new()));
        } else if self.unacked.is_empty() && !self.fin_sent {
            send(self.segment_at(self.una, SYN | ACK, Vec::new()));
        } else {
            let mut seq = self.una;
            for piece in self.unacked.make_contiguous().chunks(mss).take(AGAIN_SEGMENTS) {
                let payload = piece.to_vec();
                let s = Segment { seq, ack: self.rcv, bits: ACK | PUSH, window: 0xffff, payload };
                seq = seq.wrapping_add(s.room());
                send(s);
            }
            if self.fin_sent && self.unacked.is_empty() {
                send(self.segment_at(self.snd.wrapping_sub(1), ACK | FIN, Vec::new()));
            }
        }
    }

    /// Takes a segment. Gives whether it is refused, by an origin that has left.
    pub fn take(&mut self, s: &Segment, is_origin: bool, lossy: bool) -> bool {
        if s.bits & RST != 0 {
            self.reset = true;
            self.due = None;
            return false;
        }
        if s.bits & SYN != 0 {
            if !self.open {
                self.rcv = s.seq.wrapping_add(1);
                (self.open, self.una, self.window) = (true, s.ack, s.window);
                self.due = None;
            }
            self.owes_ack = true;
            return false;
        }
        if s.bits & ACK != 0 {
            self.acknowledged(s, lossy);
        }
        if self.deaf {
            return false;
        }
        // What came before, and comes again, is acknowledged again.
        let seen = self.rcv.wrapping_sub(s.seq);
        if seen <= s.room() && !self.ended {
            let fresh = s.payload.get(seen as usize..).unwrap_or_default();
            if is_origin && self.fin_sent && !fresh.is_empty() {
                self.gone = true;
                return true;
            }
            self.input.extend(fresh);
            self.room = self.room.map(|r| r.saturating_sub(fresh.len() as u32));
            self.rcv = s.seq.wrapping_add(s.room());
            if s.bits & FIN != 0 {
                self.ended = true;
                // The origin ends its half as well; clients decide for themselves.
                self.fin |= is_origin && !self.fin_sent;
            }
        }
        self.owes_ack |= s.room() > 0;
        false
    }

    fn acknowledged(&mut self, s: &Segment, lossy: bool) {
        let n = s.ack.wrapping_sub(self.una);
        if n > self.in_flight() {
            return;
        }
        self.window = s.window;
        self.una = s.ack;
        if lossy && n > 0 {
            (self.due, self.vain) = (None, 0);
        }
        // A FIN or SYN is none of the bytes.
        self.unacked.drain(..self.unacked.len().min(n as usize));
    }
}

/// An address and a port.
pub type At = (IpAddr, u16);

/// Writes an Ethernet frame's type and all that follows, with checksums where somebody looks at them. Gives the frame's
/// length.
pub fn write<P: AsRef<[u8]>>(b: &mut [u8], src: At, dst: At, s: &Segment<P>, sums: bool) -> usize {
    let payload = s.payload.as_ref();
    // Segments of up to 1,460 bytes, as on any Ethernet. Without it the default is 536 (RFC 9293 3.7.1).
    let options: &[u8] = if s.bits & SYN != 0 { &[2, 4, 5, 0xb4] } else { &[] };
    let tcp = 20 + options.len() + payload.len();
    let before = match (src.0, dst.0) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let len = 20 + tcp;
            b[12..14].copy_from_slice(&[8, 0]);
            let ip = &mut b[14..34];
            ip[..12].copy_from_slice(&[0x45, 0, (len >> 8) as u8, len as u8, 0, 0, 0x40, 0, 64, 6, 0, 0]);
            ip[12..16].copy_from_slice(&from.octets());
            ip[16..20].copy_from_slice(&to.octets());
            if sums {
                let sum = !ones_sum(0, ip);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            34
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            b[12..14].copy_from_slice(&[0x86, 0xdd]);
            let ip = &mut b[14..54];
            ip[..8].copy_from_slice(&[0x60, 0, 0, 0, (tcp >> 8) as u8, tcp as u8, 6, 64]);
            ip[8..24].copy_from_slice(&from.octets());
            ip[24..40].copy_from_slice(&to.octets());
            54
        }
        _ => panic!("from {} to {}", src.0, dst.0),
    };
    let (ip, t) = b[14..before + tcp].split_at_mut(before - 14);
    t[..2].copy_from_slice(&src.1.to_be_bytes());
    t[2..4].copy_from_slice(&dst.1.to_be_bytes());
    t[4..8].copy_from_slice(&s.seq.to_be_bytes());
    t[8..12].copy_from_slice(&s.ack.to_be_bytes());
    t[12] = 0x50 + ((options.len() as u8) << 2);
    t[13] = s.bits;
    t[14..16].copy_from_slice(&(s.window as u16).to_be_bytes());
    t[16..20].copy_from_slice(&[0; 4]);
    t[20..20 + options.len()].copy_from_slice(options);
    t[20 + options.len()..].copy_from_slice(payload);
    if sums {
        let sum = !ones_sum(pseudo_sum(ip, tcp), t);
        t[16..18].copy_from_slice(&sum.to_be_bytes());
    }
    before + tcp
}

/// Reads a frame; `None`: it is damaged, or not for us. Checksums are looked at where frames may be damaged.
pub fn read(f: &[u8], verify: bool) -> Option<(At, At, Segment)> {
    let ip = f.get(14..)?;
    let number = |at: usize| Some(usize::from(u16::from_be_bytes([*ip.get(at)?, *ip.get(at + 1)?])));
    let is_v6 = ip.first()? >> 4 == 6;
    let (head, total) = if is_v6 { (40, 40 + number(4)?) } else { (20, number(2)?) };
    let (ip, t) = ip.get(..total)?.split_at_checked(head)?;
    let is_damaged =
        |ip: &[u8]| !is_v6 && ones_sum(0, ip) != 0xffff || ones_sum(pseudo_sum(ip, t.len()), t) != 0xffff;
    if t.len() < 20 || verify && is_damaged(ip) {
        return None;
    }
    let word = |at: usize| u16::from_be_bytes([t[at], t[at + 1]]);
    let long = |at: usize| u32::from(word(at)) << 16 | u32::from(word(at + 2));
    let s = Segment {
        seq: long(4),
        ack: long(8),
        bits: t[13],
        window: word(14).into(),
        payload: t.get(usize::from(t[12] >> 4) * 4..)?.to_vec(),
    };
    let six = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?));
    let four = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
    let (from, to) = if is_v6 { (six(8)?, six(24)?) } else { (four(12)?, four(16)?) };
    Some(((from, word(0)), (to, word(2)), s))
}

/// What the checksum says of the addresses, the protocol and the length.
fn pseudo_sum(ip: &[u8], tcp: usize) -> u16 {
    let addresses = if ip.len() == 40 { &ip[8..40] } else { &ip[12..20] };
    ones_sum(ones_sum(6, &(tcp as u16).to_be_bytes()), addresses)
}

fn ones_sum(start: u16, bytes: &[u8]) -> u16 {
    let word = |w: &[u8]| u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| u32::from(*b));
    let mut sum = u32::from(start) + bytes.chunks(2).map(word).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
