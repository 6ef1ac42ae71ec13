//! Capture files: pcapng is written (nanoseconds, several interfaces), classic pcap and pcapng are read.
//!
//! Format: draft-ietf-opsawg-pcapng (section, interface and enhanced packet blocks) and
//! draft-ietf-opsawg-pcap. Written to be opened by tcpdump and Wireshark.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use crate::Time;

const LINKTYPE_ETHERNET: u16 = 1;
/// Frames longer than this in a file are taken as damage.
const FRAME_BYTES_MAX: u32 = 256 << 10;

/// Writes frames to a pcapng file.
pub struct PcapWriter {
    out: BufWriter<File>,
}

impl PcapWriter {
    /// Creates the file, with one Ethernet interface for each of `interfaces`.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn create(path: &Path, interfaces: &[&str]) -> io::Result<PcapWriter> {
        let mut w = PcapWriter { out: BufWriter::new(File::create(path)?) };
        // Section header: byte-order magic, version 1.0, section length unknown.
        w.block(0x0A0D_0D0A, &[&0x1A2B_3C4Du32.to_le_bytes(), &[1, 0, 0, 0], &u64::MAX.to_le_bytes()])?;
        for name in interfaces {
            let mut body = Vec::new();
            body.extend_from_slice(&LINKTYPE_ETHERNET.to_le_bytes());
            body.extend_from_slice(&[0, 0]);
            body.extend_from_slice(&0u32.to_le_bytes());
            option(&mut body, 2, name.as_bytes());
            option(&mut body, 9, &[9]); // if_tsresol: 10^-9
            option(&mut body, 0, &[]);
            w.block(1, &[&body])?;
        }
        w.out.flush()?;
        Ok(w)
    }

    /// Writes one frame, given in parts, as seen at `time` on interface number `interface`.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write(&mut self, time: Time, interface: u32, parts: &[&[u8]]) -> io::Result<()> {
        let len: usize = parts.iter().map(|p| p.len()).sum();
        let total = (12 + 20 + len.next_multiple_of(4)) as u32;
        let o = &mut self.out;
        o.write_all(&6u32.to_le_bytes())?;
        o.write_all(&total.to_le_bytes())?;
        o.write_all(&interface.to_le_bytes())?;
        o.write_all(&((time.0 >> 32) as u32).to_le_bytes())?;
        o.write_all(&(time.0 as u32).to_le_bytes())?;
        o.write_all(&(len as u32).to_le_bytes())?;
        o.write_all(&(len as u32).to_le_bytes())?;
        for p in parts {
            o.write_all(p)?;
        }
        o.write_all(&[0; 3][..len.next_multiple_of(4) - len])?;
        o.write_all(&total.to_le_bytes())
    }

    /// Writes what is buffered to the file.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn block(&mut self, kind: u32, parts: &[&[u8]]) -> io::Result<()> {
        let len: usize = parts.iter().map(|p| p.len()).sum();
        let total = (12 + len.next_multiple_of(4)) as u32;
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&total.to_le_bytes())?;
        for p in parts {
            self.out.write_all(p)?;
        }
        self.out.write_all(&[0; 3][..len.next_multiple_of(4) - len])?;
        self.out.write_all(&total.to_le_bytes())
    }
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend_from_slice(&code.to_le_bytes());
    body.extend_from_slice(&(value.len() as u16).to_le_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

enum Format {
    Pcap { nanos: bool },
    PcapNg { ns_per_tick: Vec<u64> },
}

/// Reads frames from a pcap or pcapng file, in file order.
pub struct PcapReader<R> {
    input: R,
    big_endian: bool,
    format: Format,
}

impl PcapReader<BufReader<File>> {
    /// Opens a file.
    ///
    /// # Errors
    /// What the file system says, or `InvalidData` when it is not a capture of Ethernet frames.
    pub fn open(path: &Path) -> io::Result<Self> {
        PcapReader::new(BufReader::new(File::open(path)?))
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl<R: Read> PcapReader<R> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// `InvalidData` when it is not a capture of Ethernet frames.
    pub fn new(mut input: R) -> io::Result<Self> {
        let mut magic = [0; 4];
        input.read_exact(&mut magic)?;
        let (big_endian, nanos) = match magic {
            [0xd4, 0xc3, 0xb2, 0xa1] => (false, false),
            [0x4d, 0x3c, 0xb2, 0xa1] => (false, true),
            [0xa1, 0xb2, 0xc3, 0xd4] => (true, false),
            [0xa1, 0xb2, 0x3c, 0x4d] => (true, true),
            [0x0a, 0x0d, 0x0d, 0x0a] => {
                let mut head = [0; 8];
                input.read_exact(&mut head)?;
                let big_endian = match head[4..] {
                    [0x4d, 0x3c, 0x2b, 0x1a] => false,
                    [0x1a, 0x2b, 0x3c, 0x4d] => true,
                    _ => return Err(invalid("pcapng: bad byte-order magic")),
                };
                let mut r =
                    PcapReader { input, big_endian, format: Format::PcapNg { ns_per_tick: Vec::new() } };
                let total = r.u32_of(&head[..4]);
                r.skip(total.checked_sub(12).ok_or_else(|| invalid("pcapng: short section header"))?)?;
                return Ok(r);
            }
            _ => return Err(invalid("not a pcap or pcapng file")),
        };
        let mut rest = [0; 20];
        input.read_exact(&mut rest)?;
        let r = PcapReader { input, big_endian, format: Format::Pcap { nanos } };
        if r.u32_of(&rest[16..]) & 0xffff != u32::from(LINKTYPE_ETHERNET) {
            return Err(invalid("pcap: not a capture of Ethernet frames"));
        }
        Ok(r)
    }

    fn u32_of(&self, b: &[u8]) -> u32 {
        let b: [u8; 4] = b.try_into().unwrap_or_default();
        if self.big_endian { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) }
    }

    fn skip(&mut self, n: u32) -> io::Result<()> {
        let copied = io::copy(&mut (&mut self.input).take(u64::from(n)), &mut io::sink())?;
        if copied == u64::from(n) { Ok(()) } else { Err(invalid("file ends within a block")) }
    }

    /// Reads the next frame into `frame`; gives its time, or `None` at the end of the file.
    ///
    /// # Errors
    /// `InvalidData` where the file is damaged.
    pub fn next_frame(&mut self, frame: &mut Vec<u8>) -> io::Result<Option<Time>> {
        match self.format {
            Format::Pcap { nanos } => self.next_pcap(frame, nanos),
            Format::PcapNg { .. } => self.next_pcapng(frame),
        }
    }

    fn read_or_end(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        let mut got = 0;
        while got < buf.len() {
            match self.input.read(&mut buf[got..])? {
                0 if got == 0 => return Ok(false),
                0 => return Err(invalid("file ends within a record")),
                n => got += n,
            }
        }
        Ok(true)
    }

    fn read_bytes(&mut self, frame: &mut Vec<u8>, len: u32) -> io::Result<()> {
        if len > FRAME_BYTES_MAX {
            return Err(invalid("a frame of more than 256 KiB: the file is damaged"));
        }
        frame.resize(len as usize, 0);
        self.input.read_exact(frame)
    }

    fn next_pcap(&mut self, frame: &mut Vec<u8>, nanos: bool) -> io::Result<Option<Time>> {
        let mut head = [0; 16];
        if !self.read_or_end(&mut head)? {
            return Ok(None);
        }
        let (sec, sub) = (u64::from(self.u32_of(&head[..4])), u64::from(self.u32_of(&head[4..8])));
        let len = self.u32_of(&head[8..12]);
        self.read_bytes(frame, len)?;
        Ok(Some(Time(sec * 1_000_000_000 + if nanos { sub } else { sub * 1000 })))
    }

    fn next_pcapng(&mut self, frame: &mut Vec<u8>) -> io::Result<Option<Time>> {
        loop {
            let mut head = [0; 8];
            if !self.read_or_end(&mut head)? {
                return Ok(None);
            }
            let (kind, total) = (self.u32_of(&head[..4]), self.u32_of(&head[4..]));
            let body = total
                .checked_sub(12)
                .filter(|_| total % 4 == 0)
                .ok_or_else(|| invalid("pcapng: bad block length"))?;
            if kind == 6 && body >= 20 {
                let mut h = [0; 20];
                self.input.read_exact(&mut h)?;
                let interface = self.u32_of(&h) as usize;
                let ticks = u64::from(self.u32_of(&h[4..8])) << 32 | u64::from(self.u32_of(&h[8..12]));
                let len = self.u32_of(&h[12..16]);
                if len > body - 20 {
                    return Err(invalid("pcapng: frame longer than its block"));
                }
                self.read_bytes(frame, len)?;
                self.skip(body - 20 - len + 4)?;
                let Format::PcapNg { ns_per_tick } = &self.format else { return Ok(None) };
                let scale = ns_per_tick.get(interface).copied().unwrap_or(1000);
                return Ok(Some(Time(ticks.saturating_mul(scale))));
            }
            if kind == 1 && body <= FRAME_BYTES_MAX {
                let mut b = vec![0; body as usize];
                self.input.read_exact(&mut b)?;
                self.skip(4)?;
                let scale = self.interface_scale(&b)?;
                if let Format::PcapNg { ns_per_tick } = &mut self.format {
                    ns_per_tick.push(scale);
                }
                continue;
            }
            self.skip(body + 4)?;
        }
    }

    fn u16_of(&self, b: &[u8]) -> u16 {
        let b: [u8; 2] = b.try_into().unwrap_or_default();
        if self.big_endian { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) }
    }

    /// Nanoseconds per tick of an interface block (if_tsresol; microseconds when it is not given).
    fn interface_scale(&self, body: &[u8]) -> io::Result<u64> {
        if body.len() < 8 || self.u16_of(&body[..2]) != LINKTYPE_ETHERNET {
            return Err(invalid("pcapng: not a capture of Ethernet frames"));
        }
        let mut at = 8;
        while let Some(h) = body.get(at..at + 4) {
            let (code, len) = (self.u16_of(&h[..2]), self.u16_of(&h[2..]) as usize);
            match (code, body.get(at + 4)) {
                (9, Some(&exp @ 0..=9)) if len == 1 => return Ok(10u64.pow(9 - u32::from(exp))),
                (9, _) => return Err(invalid("pcapng: timestamp resolution not supported")),
                (0, _) => break,
                _ => at += 4 + len.next_multiple_of(4),
            }
        }
        Ok(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let path = std::env::temp_dir().join(format!("millrace-pcapng-{}.pcapng", std::process::id()));
        let mut w = PcapWriter::create(&path, &["wan", "lan"]).unwrap();
        for i in 0..5u64 {
            w.write(Time(i << 33 | 7), (i % 2) as u32, &[&[i as u8; 14], &vec![9; i as usize]]).unwrap();
        }
        drop(w);
        let mut r = PcapReader::open(&path).unwrap();
        let mut f = Vec::new();
        for i in 0..5u64 {
            assert_eq!(r.next_frame(&mut f).unwrap(), Some(Time(i << 33 | 7)));
            assert_eq!((f.len(), f[0]), (14 + i as usize, i as u8));
        }
        assert_eq!(r.next_frame(&mut f).unwrap(), None);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn classic_pcap_in_both_byte_orders() {
        for be in [false, true] {
            let u = |v: u32| if be { v.to_be_bytes() } else { v.to_le_bytes() };
            let mut file = Vec::new();
            for v in [0xa1b2_c3d4, 0x0002_0004, 0, 0, 65535, 1, 2, 3, 4, 4] {
                file.extend(u(v));
            }
            file.extend(b"abcd");
            let mut r = PcapReader::new(&file[..]).unwrap();
            let mut f = Vec::new();
            assert_eq!(r.next_frame(&mut f).unwrap(), Some(Time(2_000_003_000)));
            assert_eq!(f, b"abcd");
            assert_eq!(r.next_frame(&mut f).unwrap(), None);
        }
    }

    #[test]
    fn damage_is_an_error_not_a_panic() {
        assert!(PcapReader::new(&b"not a capture"[..]).is_err());
        let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1];
        file.extend([0; 16]);
        file.extend(1u32.to_le_bytes());
        file.extend([0xff; 16]);
        let mut r = PcapReader::new(&file[..]).unwrap();
        assert!(r.next_frame(&mut Vec::new()).is_err());
    }
}
