//! Frames of a capture, sent again: at a rate, or when they were recorded.

use std::path::Path;

use dataplane::pcapng::PcapReader;
use dataplane::{Packet, Pool};
use hugepages::PagePolicy;

/// More than this is not read into memory.
const BYTES_MAX: usize = 1 << 30;

/// A capture in memory.
pub struct Capture {
    /// When each frame was recorded, from the first one on; and where it lies.
    index: Vec<(u64, usize, u32)>,
    bytes: Vec<u8>,
    longest: u32,
}

impl Capture {
    /// Reads a file.
    ///
    /// # Errors
    /// One sentence, with the mend.
    pub fn open(path: &Path) -> Result<Capture, String> {
        let explain = |e: std::io::Error| {
            format!("cannot replay {}: {e}; name a pcap or pcapng file of Ethernet frames", path.display())
        };
        let mut reader = PcapReader::open(path).map_err(explain)?;
        let (mut index, mut bytes, mut frame) = (Vec::new(), Vec::new(), Vec::new());
        let mut first = None;
        while let Some(time) = reader.next_frame(&mut frame).map_err(explain)? {
            let first = *first.get_or_insert(time);
            index.push((time.since_ns(first), bytes.len(), frame.len() as u32));
            bytes.extend_from_slice(&frame);
            if bytes.len() > BYTES_MAX {
                return Err(format!("{} is larger than 1 GiB; cut it with editcap", path.display()));
            }
        }
        let longest = index.iter().map(|(_, _, n)| *n).max();
        let longest = longest
            .ok_or_else(|| format!("{} has no frames; record some with tcpdump -w", path.display()))?;
        Ok(Capture { index, bytes, longest })
    }
}

/// A capture on its way.
pub struct Replay {
    capture: Capture,
    pool: Pool,
    at: usize,
    /// From the beginning, after the end.
    again: bool,
}

impl Replay {
    /// Of which `under_way` frames can be on their way at a time.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn new(capture: Capture, again: bool, under_way: u32) -> Result<Replay, String> {
        let cell = capture.longest + dataplane::buf::HEADROOM as u32;
        let pool = Pool::reserve("replay", under_way, cell, PagePolicy::Best).map_err(|e| e.to_string())?;
        Ok(Replay { capture, pool, at: 0, again })
    }

    /// When the next one is due after the start of the replay; `None` after the last.
    pub fn due_ns(&self) -> Option<u64> {
        self.capture.index.get(self.at).map(|(t, _, _)| *t)
    }

    /// The next frame; `None` after the last, or when no cell is free.
    pub fn next(&mut self) -> Option<Packet> {
        let (_, from, n) = *self.capture.index.get(self.at)?;
        let mut p = self.pool.alloc()?;
        p.append(&self.capture.bytes[from..from + n as usize]);
        self.at += 1;
        if self.again && self.at == self.capture.index.len() {
            self.at = 0;
        }
        Some(p)
    }

    /// Whether all have been sent.
    pub fn is_done(&self) -> bool {
        self.at == self.capture.index.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::Time;
    use dataplane::pcapng::PcapWriter;

    #[test]
    fn frames_come_in_order_and_with_their_times() {
        let dir = std::env::temp_dir().join(format!("millrace-replay-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let file = dir.join("a.pcapng");
        let mut w = PcapWriter::create(&file, &["x"]).expect("a file");
        for (t, n) in [(5_000u64, 60usize), (6_000, 1514), (9_000, 9000)] {
            w.write(Time(t), 0, &[&vec![n as u8; n]]).expect("written");
        }
        w.flush().expect("written");
        let mut r = Replay::new(Capture::open(&file).expect("a capture"), false, 4).expect("memory");
        let mut got = Vec::new();
        while let Some(due) = r.due_ns() {
            got.push((due, r.next().expect("a cell").head().len()));
        }
        assert_eq!(got, [(0, 60), (1_000, 1514), (4_000, 9000)]);
        assert!(r.is_done() && r.next().is_none());
        let mut r = Replay::new(Capture::open(&file).expect("a capture"), true, 4).expect("memory");
        let n = (0..7).map_while(|_| r.next()).count();
        assert_eq!(n, 7);
        std::fs::write(&file, b"nothing of the kind").expect("written");
        assert!(Capture::open(&file).is_err_and(|e| e.contains("name a pcap")));
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
