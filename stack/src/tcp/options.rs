//! TCP options on the wire: RFC 9293 3.1, RFC 7323, RFC 2018.

use dataplane::Packet;

use super::seq::Seq;

/// Blocks that fit an ACK without other options.
pub const SACK_BLOCKS_MAX: usize = 4;
/// The most that a header has room for.
pub const OPTIONS_MAX: usize = 40;
/// The timestamps option, padded to 4 bytes: what each segment pays for it.
pub const TIMESTAMPS_BYTES: u16 = 12;

/// The timestamps option (RFC 7323 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval.
    pub val: u32,
    /// TSecr.
    pub ecr: u32,
}

impl Timestamps {
    /// Writes the option, padded to 4 bytes; gives the length.
    #[inline]
    pub fn write(&self, out: &mut [u8; OPTIONS_MAX]) -> usize {
        out[..4].copy_from_slice(&[1, 1, 8, 10]);
        out[4..8].copy_from_slice(&self.val.to_be_bytes());
        out[8..12].copy_from_slice(&self.ecr.to_be_bytes());
        usize::from(TIMESTAMPS_BYTES)
    }
}

/// The options of a SYN that we understand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynOptions {
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Window scale (at most 14: RFC 7323 2.3).
    pub window_scale: Option<u8>,
    /// SACK permitted.
    pub sack: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
}

impl SynOptions {
    /// Reads a SYN's options. What is malformed ends the list (RFC 9293 3.1, MUST-7: be ready for it).
    #[inline(always)]
    pub fn read(p: &Packet) -> SynOptions {
        let m = p.meta();
        // As Linux writes them, which floods imitate.
        if let Ok(words) = <&[u8; 20]>::try_from(&p.head()[m.l4 as usize + 20..m.payload as usize])
            && let [mss, both, val, ecr, scale] = words.as_chunks::<4>().0
        {
            let [mss, both, val, ecr, scale] = [mss, both, val, ecr, scale].map(|w| u32::from_be_bytes(*w));
            if mss >> 16 == 0x0204 && both == 0x0402_080a && scale >> 8 == 0x01_0303 {
                return SynOptions {
                    mss: Some(mss as u16),
                    window_scale: Some((scale as u8).min(14)),
                    sack: true,
                    timestamps: Some(Timestamps { val, ecr }),
                };
            }
        }
        SynOptions::read_slowly(p)
    }

    #[inline(never)]
    fn read_slowly(p: &Packet) -> SynOptions {
        let mut found = SynOptions::default();
        each(p, |kind, value| match (kind, value) {
            (2, &[a, b]) => found.mss = Some(u16::from_be_bytes([a, b])),
            (3, &[s]) => found.window_scale = Some(s.min(14)),
            (4, &[]) => found.sack = true,
            (8, _) => found.timestamps = timestamps(value),
            _ => {}
        });
        found
    }

    /// Writes the options in Linux's order (mss, nop, nop, sackOK, nop, wscale; with timestamps: mss, sackOK, ts, nop,
    /// wscale), padded to 4 bytes; gives the length.
    #[inline(always)]
    pub fn write(&self, out: &mut [u8; OPTIONS_MAX]) -> usize {
        let (words, _) = out.as_chunks_mut::<4>();
        let mut n = 0;
        let mut put = |word: u32| {
            words[n] = word.to_be_bytes();
            n += 1;
        };
        if let Some(mss) = self.mss {
            put(0x0204_0000 | u32::from(mss));
        }
        match (self.sack, self.timestamps) {
            (true, None) => put(0x0101_0402),
            (sack, Some(ts)) => {
                put(if sack { 0x0402_080a } else { 0x0101_080a });
                put(ts.val);
                put(ts.ecr);
            }
            (false, None) => {}
        }
        if let Some(s) = self.window_scale {
            put(0x0103_0300 | u32::from(s));
        }
        n * 4
    }
}

/// The SACK blocks of an ACK: first and last-plus-one, in the order that they came in (RFC 2018 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [(Seq, Seq); SACK_BLOCKS_MAX],
    len: u8,
}

impl SackBlocks {
    /// Adds a block; one too many is left out.
    pub fn push(&mut self, from: Seq, to: Seq) {
        if usize::from(self.len) < SACK_BLOCKS_MAX {
            self.blocks[usize::from(self.len)] = (from, to);
            self.len += 1;
        }
    }
}

impl std::ops::Deref for SackBlocks {
    type Target = [(Seq, Seq)];
    fn deref(&self) -> &[(Seq, Seq)] {
        &self.blocks[..usize::from(self.len)]
    }
}

/// The options of a segment without SYN that we understand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// SACK.
    pub sack: SackBlocks,
}

impl Options {
    /// Reads them.
    #[inline]
    pub fn read(p: &Packet) -> Options {
        let m = p.meta();
        let mut found = Options::default();
        match p.head()[m.l4 as usize + 20..m.payload as usize] {
            [] => {}
            // What nearly every segment has, where there are timestamps.
            [1, 1, 8, 10, a, b, c, d, e, f, g, h] => {
                let (val, ecr) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
                found.timestamps = Some(Timestamps { val, ecr });
            }
            _ => found.read_slowly(p),
        }
        found
    }

    #[inline(never)]
    fn read_slowly(&mut self, p: &Packet) {
        each(p, |kind, value| match kind {
            5 if value.len().is_multiple_of(8) => {
                for b in value.chunks_exact(8) {
                    let word = |i| Seq(u32::from_be_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]));
                    self.sack.push(word(0), word(4));
                }
            }
            8 => self.timestamps = timestamps(value),
            _ => {}
        });
    }

    /// Writes them, padded to 4 bytes; gives the length. With timestamps there is room for three blocks.
    pub fn write(&self, out: &mut [u8; OPTIONS_MAX]) -> usize {
        let mut n = 0;
        if let Some(ts) = self.timestamps {
            n = ts.write(out);
        }
        let room = (OPTIONS_MAX - n - 4) / 8;
        let blocks = &self.sack[..self.sack.len().min(room)];
        if !blocks.is_empty() {
            out[n..n + 4].copy_from_slice(&[1, 1, 5, 2 + 8 * blocks.len() as u8]);
            n += 4;
            for (from, to) in blocks {
                out[n..n + 4].copy_from_slice(&from.0.to_be_bytes());
                out[n + 4..n + 8].copy_from_slice(&to.0.to_be_bytes());
                n += 8;
            }
        }
        n
    }
}

fn timestamps(value: &[u8]) -> Option<Timestamps> {
    let &[a, b, c, d, e, f, g, h] = value else { return None };
    Some(Timestamps { val: u32::from_be_bytes([a, b, c, d]), ecr: u32::from_be_bytes([e, f, g, h]) })
}

/// Calls `take` for each option but no-operations, until the list ends or is malformed.
fn each(p: &Packet, mut take: impl FnMut(u8, &[u8])) {
    let m = p.meta();
    let mut o = &p.head()[m.l4 as usize + 20..m.payload as usize];
    loop {
        match *o {
            [] | [0, ..] => break,
            [1, ref rest @ ..] => o = rest,
            [kind, len, ..] if len >= 2 && usize::from(len) <= o.len() => {
                take(kind, &o[2..usize::from(len)]);
                o = &o[usize::from(len)..];
            }
            _ => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::Pool;
    use hugepages::PagePolicy;

    fn with_options(o: &[u8]) -> Packet {
        let pool = Pool::reserve("t", 2, 512, PagePolicy::NormalOnly).unwrap();
        let mut p = pool.alloc().unwrap();
        p.append(&[0; 20]);
        p.append(o);
        p.meta_mut().payload = 20 + o.len() as u16;
        p
    }

    #[test]
    fn options_of_a_syn_round_trip_and_malformed_ones_end_the_list() {
        let mut out = [0; OPTIONS_MAX];
        let o = SynOptions { mss: Some(1460), window_scale: Some(7), ..SynOptions::default() };
        let n = o.write(&mut out);
        assert_eq!(out[..n], [2, 4, 5, 0xb4, 1, 3, 3, 7]);
        let all = SynOptions { sack: true, timestamps: Some(Timestamps { val: 1, ecr: 2 }), ..o };
        for o in [o, SynOptions { sack: true, ..o }, all, SynOptions { sack: false, ..all }] {
            let n = o.write(&mut out);
            assert!(n.is_multiple_of(4));
            assert_eq!(SynOptions::read(&with_options(&out[..n])), o);
        }
        let linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 200];
        assert_eq!(SynOptions::read(&with_options(&linux)).window_scale, Some(14));
        let n = all.write(&mut out);
        assert_eq!(out[..6], linux[..6], "Linux's order");
        assert_eq!(n, linux.len());
        for bad in [
            &[2u8, 0, 5, 1][..],
            &[2, 4, 5],
            &[3],
            &[9, 1],
            &[2, 255, 0, 0],
            &[0, 2, 4, 5, 0xb4],
            &[8, 4, 1, 1],
        ] {
            assert_eq!(SynOptions::read(&with_options(bad)), SynOptions::default(), "{bad:?}");
        }
    }

    #[test]
    fn timestamps_and_blocks_round_trip_as_far_as_there_is_room() {
        let mut out = [0; OPTIONS_MAX];
        let mut o = Options::default();
        assert_eq!(o.write(&mut out), 0);
        for i in 0..6u32 {
            o.sack.push(Seq(i * 10), Seq(i * 10 + 5));
        }
        assert_eq!((o.write(&mut out), o.sack.len()), (36, 4));
        assert_eq!(Options::read(&with_options(&out[..36])), o);
        o.timestamps = Some(Timestamps { val: 3, ecr: 4 });
        assert_eq!(o.write(&mut out), 40);
        let back = Options::read(&with_options(&out));
        assert_eq!((back.timestamps, &back.sack[..]), (o.timestamps, &o.sack[..3]));
        o.sack = SackBlocks::default();
        assert_eq!(o.write(&mut out), 12);
        assert_eq!(Options::read(&with_options(&out[..12])), o);
        for bad in [
            &[1u8, 1, 8, 9, 0, 0, 0, 1, 0, 0, 0, 2][..],
            &[1, 1, 5, 9, 0, 0, 0, 1, 0, 0, 0, 2],
            &[1, 1, 5, 2],
        ] {
            assert_eq!(Options::read(&with_options(bad)), Options::default(), "{bad:?}");
        }
    }
}
