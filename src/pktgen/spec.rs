//! Streams, as a person writes them: `syn dst=10.0.0.1:80 src=10.1.0.0/16`.

use std::path::PathBuf;

use dataplane::port::Mac;

use super::field::Field;

/// Bytes of the shortest and the longest frame, FCS included.
pub const SIZE_MIN: u64 = 64;
/// A jumbo frame.
pub const SIZE_MAX: u64 = 9216;
/// The mix of frames that is called simple IMIX: 7 × 64, 4 × 594, 1 × 1518.
const IMIX: [(u16, u32); 3] = [(64, 7), (594, 4), (1518, 1)];

/// TCP flags (RFC 9293 3.1).
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset.
    pub const RST: u8 = 4;
    /// Push.
    pub const PSH: u8 = 8;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 16;
    /// The urgent pointer counts.
    pub const URG: u8 = 32;
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UDP, zeroes in it.
    Udp,
    /// TCP with these flags; sequence numbers at random.
    Tcp(u8),
    /// ICMP or ICMPv6 echo requests.
    Icmp,
    /// DNS queries for names that nobody has.
    Dns,
    /// What a victim of DNS amplification gets: large answers from port 53.
    Amplified,
    /// First and middle fragments of UDP datagrams that never become whole.
    Fragments,
}

/// Sizes of frames, FCS included. Those that a stream's headers do not fit are raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Size {
    /// From a range.
    Field(Field),
    /// Some sizes, by weight.
    Mix(Vec<(u16, u32)>),
}

impl Size {
    /// The largest.
    pub fn largest(&self) -> u64 {
        match self {
            Size::Field(f) => f.highest() as u64,
            Size::Mix(all) => all.iter().map(|(n, _)| u64::from(*n)).max().unwrap_or(SIZE_MIN),
        }
    }
}

/// Frames that are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// As it was written.
    pub text: String,
    /// What they carry.
    pub kind: Kind,
    /// IPv6.
    pub v6: bool,
    /// From; `None`: our own address.
    pub src: Option<Field>,
    /// To.
    pub dst: Field,
    /// From port.
    pub sport: Field,
    /// To port.
    pub dport: Field,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// VLAN tag.
    pub vlan: Option<Field>,
    /// From station; `None`: the port's.
    pub src_mac: Option<Field>,
    /// To station; `None`: who is asked for by ARP or ND.
    pub dst_mac: Option<Mac>,
    /// Bytes of frame.
    pub size: Size,
    /// Its share among the streams.
    pub weight: u32,
    /// Each frame says which it is and when it left, so that what comes back can be matched.
    pub probe: bool,
}

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Frames that are made.
    Made(Box<Spec>),
    /// Frames of a capture.
    Pcap(PathBuf),
}

/// The words that are known, for those who mistype.
const KEYS: &[&str] =
    &["src", "dst", "sport", "dport", "size", "ttl", "vlan", "srcmac", "dstmac", "flags", "weight", "probe"];
const KINDS: &[&str] = &["udp", "tcp", "syn", "ack", "rst", "icmp", "dns", "amp", "frags"];

/// Reads one stream.
///
/// # Errors
/// What is wrong, with the mend.
pub fn parse(text: &str) -> Result<Source, String> {
    if let Some(file) = text.strip_prefix("pcap:") {
        return Ok(Source::Pcap(file.into()));
    }
    let mut words = text.split([' ', ',']).filter(|w| !w.is_empty());
    let kind_word = words.next().ok_or("an empty stream; write one, as in \"udp dst=10.0.0.2:9\"")?;
    let kind = match kind_word {
        "udp" => Kind::Udp,
        "tcp" => Kind::Tcp(flag::ACK),
        "syn" => Kind::Tcp(flag::SYN),
        "ack" => Kind::Tcp(flag::ACK),
        "rst" => Kind::Tcp(flag::RST),
        "icmp" => Kind::Icmp,
        "dns" => Kind::Dns,
        "amp" => Kind::Amplified,
        "frags" => Kind::Fragments,
        other => {
            return Err(format!(
                "\"{other}\" begins no stream; write {} or pcap:FILE{}",
                KINDS.join(", "),
                meant(other, KINDS)
            ));
        }
    };
    let mut dst = None;
    let mut s = Spec {
        text: text.to_owned(),
        kind,
        v6: false,
        src: None,
        dst: Field::Fixed(0),
        sport: Field::Random(1024, 65_535),
        dport: Field::Fixed(9),
        ttl: 64,
        vlan: None,
        src_mac: None,
        dst_mac: None,
        size: Size::Field(Field::Fixed(u128::from(SIZE_MIN))),
        weight: 1,
        probe: false,
    };
    let mut sized = false;
    match kind {
        Kind::Dns => s.dport = Field::Fixed(53),
        Kind::Amplified => {
            s.sport = Field::Fixed(53);
            s.dport = Field::Random(1024, 65_535);
            s.size = Size::Field(Field::Fixed(1400));
        }
        Kind::Tcp(_) => s.dport = Field::Fixed(80),
        Kind::Fragments => s.size = Size::Field(Field::Fixed(1024)),
        _ => {}
    }
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let wrong = |e: String| format!("{key}: {e}");
        let number = |min, max| Field::number(value, min, max).map_err(wrong);
        match key {
            "src" => {
                let (address, ports) = split_ports(value);
                s.src = Some(family(Field::address(address).map_err(wrong)?, &mut dst, key)?);
                if let Some(ports) = ports {
                    s.sport = Field::number(ports, 0, 65_535).map_err(wrong)?;
                }
            }
            "dst" => {
                let (address, ports) = split_ports(value);
                s.dst = family(Field::address(address).map_err(wrong)?, &mut dst, key)?;
                if let Some(ports) = ports {
                    s.dport = Field::number(ports, 0, 65_535).map_err(wrong)?;
                }
            }
            "sport" => s.sport = number(0, 65_535)?,
            "dport" => s.dport = number(0, 65_535)?,
            "ttl" => s.ttl = number(1, 255)?.lowest() as u8,
            "vlan" => s.vlan = Some(number(1, 4094)?),
            "weight" => s.weight = number(1, 1_000_000)?.lowest() as u32,
            "size" => {
                sized = true;
                s.size = size(value).map_err(wrong)?;
            }
            "srcmac" => s.src_mac = Some(mac_field(value).map_err(wrong)?),
            "dstmac" => s.dst_mac = Some(mac(value).map_err(wrong)?),
            "flags" => match kind {
                Kind::Tcp(_) => s.kind = Kind::Tcp(flags(value).map_err(wrong)?),
                _ => return Err("flags are TCP's; begin the stream with tcp".to_owned()),
            },
            "probe" if value.is_empty() => s.probe = true,
            other => {
                return Err(format!(
                    "\"{other}\" is no word of a stream; {} are{}",
                    KEYS.join(", "),
                    meant(other, KEYS)
                ));
            }
        }
    }
    let Some((_, v6)) = dst.filter(|(seen, _)| seen & 2 != 0) else {
        return Err(format!("the stream \"{text}\" goes nowhere; add dst=ADDRESS:PORT"));
    };
    s.v6 = v6;
    if s.probe && !matches!(s.kind, Kind::Udp | Kind::Icmp) {
        return Err("only udp and icmp can be probes: others are not echoed; leave probe out".to_owned());
    }
    if s.kind == Kind::Fragments && s.v6 {
        return Err("fragments are made for IPv4 only; use IPv4 addresses".to_owned());
    }
    let needs = s.headers_bytes() as u64 + super::rate::FCS_BYTES;
    if s.size.largest() < needs {
        if sized {
            let asked = s.size.largest();
            return Err(format!("frames of {asked} bytes are too short for this stream; it needs {needs}"));
        }
        s.size = Size::Field(Field::Fixed(needs.into()));
    }
    Ok(Source::Made(Box::new(s)))
}

impl Spec {
    /// Bytes of a frame before its filling: headers, and what a DNS message or a probe must hold.
    pub fn headers_bytes(&self) -> usize {
        let l2 = if self.vlan.is_some() { 18 } else { 14 };
        let l3 = if self.v6 { 40 } else { 20 };
        let l4 = match self.kind {
            Kind::Udp | Kind::Fragments | Kind::Icmp => 8,
            // A SYN says what segments it takes.
            Kind::Tcp(f) if f & flag::SYN != 0 => 24,
            Kind::Tcp(_) => 20,
            Kind::Dns => 8 + DNS_BYTES,
            Kind::Amplified => 8 + 12,
        };
        l2 + l3 + l4 + if self.probe { super::probe::BYTES } else { 0 }
    }
}

/// A query: head, a label of 12 letters, `example`, `com`, type and class.
pub const DNS_BYTES: usize = 12 + 13 + 8 + 4 + 1 + 4;

/// `seen`: 1 for src, 2 for dst; and the family that both must have.
fn family((field, v6): (Field, bool), seen: &mut Option<(u8, bool)>, key: &str) -> Result<Field, String> {
    let bit = if key == "dst" { 2 } else { 1 };
    match seen {
        Some((_, family)) if *family != v6 => Err("src and dst are of two families; keep to one".to_owned()),
        Some((bits, _)) => {
            *bits |= bit;
            Ok(field)
        }
        None => {
            *seen = Some((bit, v6));
            Ok(field)
        }
    }
}

/// `10.0.0.1:80`, `[2001:db8::1]:80`, or an address alone.
fn split_ports(text: &str) -> (&str, Option<&str>) {
    if let Some(rest) = text.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((address, ports)) => (address, ports.strip_prefix(':')),
            None => (rest, None),
        };
    }
    match text.split_once(':') {
        // More than one colon without brackets: IPv6.
        Some((address, ports)) if !ports.contains(':') => (address, Some(ports)),
        _ => (text, None),
    }
}

fn size(text: &str) -> Result<Size, String> {
    if text == "imix" {
        return Ok(Size::Mix(IMIX.to_vec()));
    }
    if text.contains(':') {
        let one = |part: &str| {
            let (n, w) = part.split_once(':').unwrap_or((part, "1"));
            let n = n.parse().ok().filter(|n| (SIZE_MIN..=SIZE_MAX).contains(&u64::from(*n)));
            let w = w.parse().ok().filter(|w| (1..=1_000_000).contains(w));
            n.zip(w).ok_or_else(|| format!("\"{part}\" is no size with a weight; write 64:7/594:4/1518:1"))
        };
        return text.split('/').map(one).collect::<Result<Vec<(u16, u32)>, String>>().map(Size::Mix);
    }
    Field::number(text, SIZE_MIN, SIZE_MAX).map(Size::Field)
}

fn flags(text: &str) -> Result<u8, String> {
    let names = [
        ("fin", flag::FIN),
        ("syn", flag::SYN),
        ("rst", flag::RST),
        ("psh", flag::PSH),
        ("ack", flag::ACK),
        ("urg", flag::URG),
    ];
    text.split('+').try_fold(0, |all, word| match names.iter().find(|(n, _)| *n == word) {
        Some((_, bit)) => Ok(all | bit),
        None if word == "none" => Ok(all),
        None => {
            Err(format!("\"{word}\" is no TCP flag; write fin, syn, rst, psh, ack, urg joined by +, or none"))
        }
    })
}

/// A MAC address, as people write it.
///
/// # Errors
/// What is wrong, with the mend.
pub fn mac(text: &str) -> Result<Mac, String> {
    let wrong = || format!("\"{text}\" is no MAC address; write 02:00:00:00:00:01");
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|p| !p.is_empty() && p.len() <= 2).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    if parts.next().is_some() { Err(wrong()) } else { Ok(mac) }
}

fn mac_field(text: &str) -> Result<Field, String> {
    if text == "random" {
        // Locally administered, no group.
        return Ok(Field::Random(0x0200_0000_0000, 0x02ff_ffff_ffff));
    }
    let number = |m: Mac| m.iter().fold(0u128, |n, b| n << 8 | u128::from(*b));
    match text.split_once('-') {
        Some((lo, hi)) => {
            let (lo, hi) = (number(mac(lo)?), number(mac(hi)?));
            if lo > hi {
                return Err(format!("\"{text}\" ends before it begins; turn it round"));
            }
            Ok(Field::Step(lo, hi))
        }
        None => Ok(Field::Fixed(number(mac(text)?))),
    }
}

fn meant(word: &str, known: &[&str]) -> String {
    let near = known.iter().map(|k| (strsim::osa_distance(word, k), k)).min();
    near.filter(|(d, _)| *d <= 2).map_or(String::new(), |(_, k)| format!("; did you mean {k}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Spec {
        match parse(text) {
            Ok(Source::Made(s)) => *s,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_stream_says_all_it_needs() {
        let s = made("syn dst=10.0.0.1:80 src=10.1.0.0/16:1024-65535 size=128 ttl=9 vlan=7 weight=3");
        assert_eq!((s.kind, s.v6, s.ttl, s.weight), (Kind::Tcp(flag::SYN), false, 9, 3));
        assert_eq!(s.dst, Field::Fixed(0x0a00_0001));
        assert_eq!(s.src, Some(Field::Random(0x0a01_0000, 0x0a01_ffff)));
        assert_eq!((s.sport, s.dport), (Field::Step(1024, 65_535), Field::Fixed(80)));
        assert_eq!((s.vlan, s.size), (Some(Field::Fixed(7)), Size::Field(Field::Fixed(128))));
        let s = made("udp,dst=[2001:db8::1]:53,src=2001:db8::/64,size=imix");
        assert!(s.v6);
        assert_eq!((s.dport, s.size.largest()), (Field::Fixed(53), 1518));
        let s = made("udp dst=10.0.0.2 probe");
        assert_eq!(s.size.largest(), 14 + 20 + 8 + 32 + 4);
        assert_eq!(made("tcp dst=10.0.0.2 flags=syn+ack").kind, Kind::Tcp(flag::SYN | flag::ACK));
        assert_eq!(made("dns dst=10.0.0.2").dport, Field::Fixed(53));
        assert_eq!(made("udp dst=10.0.0.2 srcmac=random").src_mac.map(Field::lowest), Some(0x0200_0000_0000));
        assert_eq!(made("udp dst=10.0.0.2 size=64:7/1518:1").size, Size::Mix(vec![(64, 7), (1518, 1)]));
        assert_eq!(parse("pcap:a b.pcap"), Ok(Source::Pcap("a b.pcap".into())));
    }

    #[test]
    fn what_is_wrong_says_the_mend() {
        for (bad, says) in [
            ("", "write one"),
            ("upd dst=10.0.0.1", "did you mean udp?"),
            ("udp", "add dst="),
            ("udp src=10.0.0.1", "add dst="),
            ("udp dts=10.0.0.1", "did you mean dst?"),
            ("udp dst=10.0.0.1 src=::1", "two families"),
            ("udp dst=10.0.0.1:99999", "no number from 0 to 65535"),
            ("udp dst=10.0.0.1 size=63", "64 to 9216"),
            ("dns dst=10.0.0.1 size=64", "it needs 88"),
            ("syn dst=10.0.0.1 probe", "leave probe out"),
            ("udp dst=10.0.0.1 flags=syn", "begin the stream with tcp"),
            ("tcp dst=10.0.0.1 flags=sin", "no TCP flag"),
            ("frags dst=::1", "IPv4"),
            ("udp dst=10.0.0.1 dstmac=1:2:3", "no MAC address"),
            ("udp dst=10.0.0.1 vlan=4095", "1 to 4094"),
        ] {
            let e = parse(bad).expect_err(bad);
            assert!(e.contains(says), "{bad}: {e}");
        }
    }
}
