//! `pcap`: [`Tee`] writes every frame that another port carries to a file; [`Replay`] is a port that
//! receives a file's frames, and swallows what is sent.

use std::io;
use std::path::Path;

use super::{Burst, LinkFacts, Mac, Port, PortStats, TxQueue, mem::receive_copy};
use crate::pcapng::{PcapReader, PcapWriter};
use crate::{Pool, Time};

/// A port, and a record of what it carried. For finding faults: it writes to a file on the data core.
pub struct Tee<P> {
    port: P,
    out: PcapWriter,
    failed: Option<io::Error>,
    /// Holds the packet that the port is being offered.
    offered: TxQueue,
    /// Its bytes: the port may have let go of it by the time that it is recorded.
    frame: Box<[u8]>,
}

/// The longest frame that is recorded: no port carries a longer one.
const FRAME_BYTES: usize = 64 << 10;

impl<P: Port> Tee<P> {
    /// Records `port` to a new pcapng file.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn new(port: P, path: &Path) -> io::Result<Tee<P>> {
        let out = PcapWriter::create(path, &[port.facts().kind])?;
        let frame = vec![0; FRAME_BYTES].into_boxed_slice();
        Ok(Tee { port, out, failed: None, offered: TxQueue::new(1), frame })
    }

    /// The error that ended the recording, if one did. The port goes on.
    pub fn error(&self) -> Option<&io::Error> {
        self.failed.as_ref()
    }
}

impl<P: Port> Port for Tee<P> {
    fn rx_burst(&mut self, out: &mut Burst, now: Time) -> usize {
        let before = out.len();
        let n = self.port.rx_burst(out, now);
        for p in &out[before..] {
            if self.failed.is_none() {
                self.failed = self.out.write(now, 0, &[p.head()]).err();
            }
        }
        n
    }

    fn tx_burst(&mut self, queue: &mut TxQueue, now: Time) -> usize {
        // Which frames the port will take is not known before: record them one by one as they go.
        let mut sent = 0;
        while sent < super::BURST_MAX {
            let Some(p) = queue.pop() else { break };
            let len = p.copy_to(&mut self.frame).unwrap_or(0);
            self.offered.push(p);
            if self.port.tx_burst(&mut self.offered, now) == 0 {
                if let Some(p) = self.offered.pop() {
                    queue.push_front(p);
                }
                break;
            }
            sent += 1;
            if self.failed.is_none() {
                self.failed = self.out.write(now, 0, &[&self.frame[..len]]).err();
            }
        }
        if sent > 0 && self.failed.is_none() {
            self.failed = self.out.flush().err();
        }
        sent
    }

    fn facts(&self) -> &LinkFacts {
        self.port.facts()
    }

    fn stats(&self) -> PortStats {
        self.port.stats()
    }

    fn rx_pool(&self) -> &Pool {
        self.port.rx_pool()
    }

    fn wait_fd(&self) -> Option<std::os::fd::RawFd> {
        self.port.wait_fd()
    }

    fn prepare_wait(&mut self) -> bool {
        self.port.prepare_wait()
    }

    fn end_wait(&mut self) {
        self.port.end_wait();
    }
}

/// Receives the frames of a file, as fast as they are asked for.
pub struct Replay {
    frames: Vec<Vec<u8>>,
    next: usize,
    pool: Pool,
    facts: LinkFacts,
    stats: PortStats,
    number: u8,
}

impl Replay {
    /// Reads the whole file at start, so that the core never reads one.
    ///
    /// # Errors
    /// When the file cannot be read or is not a capture of Ethernet frames.
    pub fn open(path: &Path, pool: Pool, mac: Mac, number: u8) -> io::Result<Replay> {
        let mut reader = PcapReader::open(path)?;
        let (mut frames, mut frame) = (Vec::new(), Vec::new());
        while reader.next_frame(&mut frame)?.is_some() {
            frames.push(frame.clone());
        }
        let facts = LinkFacts {
            kind: "pcap",
            device: path.display().to_string(),
            mac,
            mtu: 1500,
            mode: format!("replay of {} frames, sends nowhere", frames.len()),
            rx_checksum_offload: false,
            tx_checksum_offload: true,
            tso_bytes_max: 0,
            rss: None,
        };
        Ok(Replay { frames, next: 0, pool, facts, stats: PortStats::default(), number })
    }

    /// Whether every frame has been received.
    pub fn is_done(&self) -> bool {
        self.next == self.frames.len()
    }
}

impl Port for Replay {
    fn rx_burst(&mut self, out: &mut Burst, now: Time) -> usize {
        let before = out.len();
        for _ in 0..out.remaining_capacity() {
            let Some(f) = self.frames.get(self.next) else { break };
            self.next += 1;
            if let Some(p) = receive_copy(f, &self.pool, &mut self.stats, self.number, now) {
                out.push(p);
            }
        }
        out.len() - before
    }

    fn tx_burst(&mut self, queue: &mut TxQueue, _now: Time) -> usize {
        let mut n = 0;
        while let Some(p) = queue.pop() {
            n += 1;
            self.stats.tx_packets += 1;
            self.stats.tx_bytes += p.total_len() as u64;
        }
        n
    }

    fn facts(&self) -> &LinkFacts {
        &self.facts
    }

    fn stats(&self) -> PortStats {
        self.stats
    }

    fn rx_pool(&self) -> &Pool {
        &self.pool
    }
}

#[cfg(test)]
mod tests {
    use super::super::mem::{MemPort, wire};
    use super::*;
    use hugepages::PagePolicy;

    #[test]
    fn a_recording_replays_with_exact_counts() {
        let path = std::env::temp_dir().join(format!("millrace-tee-{}.pcapng", std::process::id()));
        let pool = Pool::reserve("rx", 64, 2048, PagePolicy::NormalOnly).unwrap();
        let (a, b) = wire(16, 2000);
        let mut tee = Tee::new(MemPort::new(a, pool.clone(), [2; 6], 1500, 0), &path).unwrap();
        for i in 0..5u8 {
            b.send(&[i; 64]);
        }
        let mut burst = Burst::new();
        assert_eq!(tee.rx_burst(&mut burst, Time(1)), 5);
        let mut q = TxQueue::new(8);
        for p in burst.drain(..).take(3) {
            q.push(p);
        }
        assert_eq!(tee.tx_burst(&mut q, Time(2)), 3);
        assert!(tee.error().is_none());

        let mut replay = Replay::open(&path, pool, [2; 6], 0).unwrap();
        assert_eq!(replay.rx_burst(&mut burst, Time(3)), 8);
        assert!(replay.is_done());
        assert_eq!(burst[7].head(), &[2; 64]);
        assert_eq!((replay.stats().rx_packets, replay.stats().rx_bytes), (8, 8 * 64));
        std::fs::remove_file(path).unwrap();
    }
}
