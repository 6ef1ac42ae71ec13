//! An eye on a wire: what the edge sends to clients a second time has to be what it sent the first time, byte for byte.

use std::collections::HashMap;

/// The streams of the edge's listeners that have gone by, on one link.
#[derive(Default)]
pub struct Watch {
    streams: HashMap<(Vec<u8>, [u8; 4]), Stream>,
    /// Bytes that have gone by for a second time, and were compared.
    pub again: u64,
    /// The first that were not the same.
    pub wrong: Option<String>,
}

#[derive(Default)]
struct Stream {
    /// Sequence number of the first byte.
    base: u32,
    bytes: Vec<u8>,
    /// Something was not seen: a port was full.
    is_torn: bool,
}

impl Watch {
    /// Takes a frame that the edge has sent.
    pub fn frame(&mut self, f: &[u8], ports: [u16; 2]) {
        let Some((peer, segment)) = segment(f) else { return };
        let head = usize::from(segment[12] >> 4) * 4;
        let from = u16::from_be_bytes([segment[0], segment[1]]);
        if !ports.contains(&from) || segment.len() < head {
            return;
        }
        let seq = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]);
        let ends = [segment[0], segment[1], segment[2], segment[3]];
        let s = self.streams.entry((peer.to_vec(), ends)).or_default();
        let (is_syn, data) = (segment[13] & 2 != 0, &segment[head..]);
        if is_syn && s.base != seq.wrapping_add(1) {
            // Another connection from the same port.
            *s = Stream::default();
        }
        if data.is_empty() || s.is_torn {
            return;
        }
        if s.bytes.is_empty() {
            s.base = seq;
        }
        let at = seq.wrapping_sub(s.base) as usize;
        if at > s.bytes.len() {
            s.is_torn = true;
            return;
        }
        let known = data.len().min(s.bytes.len() - at);
        if data[..known] != s.bytes[at..at + known] && self.wrong.is_none() {
            self.wrong = Some(format!("byte {at} and the {known} behind it were sent anew, and differ"));
        }
        self.again += known as u64;
        s.bytes.extend_from_slice(&data[known..]);
    }
}

/// A frame's peer and its TCP segment.
fn segment(f: &[u8]) -> Option<(&[u8], &[u8])> {
    let ip = f.get(14..)?;
    let (peer, from, to) = match f.get(12..14)? {
        [8, 0] if ip.get(9) == Some(&6) => (16..20, 20, u16::from_be_bytes([ip[2], ip[3]]).into()),
        [0x86, 0xdd] if ip.get(6) == Some(&6) => {
            (24..40, 40, 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]])))
        }
        _ => return None,
    };
    let segment = ip.get(from..to)?;
    (segment.len() >= 20).then_some((ip.get(peer)?, segment))
}
