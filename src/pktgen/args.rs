//! The command line of `millrace pktgen`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::compare::CompareArgs;
use super::http::HttpArgs;
use super::rate::Rate;
use super::search::NdrArgs;
use crate::config::units;

/// `millrace pktgen`: streams, or one of its tools.
#[derive(Debug, Clone, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true
)]
#[command(after_help = "Streams (words by spaces or commas; several streams share the rate by weight):\n  \
    udp | tcp | syn | ack | rst | icmp | dns | amp | frags | pcap:FILE\n  \
    src= dst=          10.0.0.1, 10.0.0.1-10.0.0.9 (one after the other), 10.0.0.1~10.0.0.9 or 10.0.0.0/24 (random);\n                     \
    :PORTS may follow, IPv6 in brackets then\n  \
    sport= dport=      80, 1024-65535, 1024~65535, random\n  \
    size=              bytes of frame with FCS: 64, 64-1518, 64~1518, imix, 64:7/594:4/1518:1\n  \
    ttl= vlan= srcmac= dstmac= flags=syn+ack weight=3 probe\n\n\
    Examples:\n  \
    millrace pktgen \"syn dst=10.0.0.1:80 src=10.1.0.0/16\" --port tap:tap0 --address 10.0.0.2/24 --rate 100kpps\n  \
    millrace pktgen \"udp dst=10.0.0.1:7 size=imix probe\" --port tap:tap0 --address 10.0.0.2/24 --rate 1gbps\n  \
    millrace pktgen \"udp dst=10.0.0.1 weight=9\" \"icmp dst=10.0.0.1 probe\" --port dpdk:net_tap0,iface=t0 \
    --address 10.0.0.2/24 --rate max --duration 5s --json\n  \
    millrace pktgen pcap:trace.pcap --port tap:tap0            as it was recorded; --rate sends it at a rate\n\n\
    Rates count frames (pps), their bits with FCS (bps), or, in %, all that a link carries (with --link).\n\
    A probe says when it left: what echoes it (UDP port 7, ping) gives latency, loss, order.\n\
    Exit codes: 0 sent, 1 nothing could be sent, 2 usage.")]
pub struct PktgenArgs {
    /// Another tool than streams.
    #[command(subcommand)]
    pub tool: Option<Tool>,
    /// What to send, without a tool.
    #[command(flatten)]
    pub streams: Option<StreamArgs>,
    /// Where to send it.
    #[command(flatten)]
    pub on: Option<PortArgs>,
}

/// What else the packet generator does.
#[derive(Debug, Clone, Subcommand)]
pub enum Tool {
    /// Load an HTTP server with our own TCP, in a closed or an open loop.
    Http(Box<HttpArgs>),
    /// Hold reports against each other: ratios, pages, pictures.
    Compare(CompareArgs),
    /// Find the highest rate without loss, and with a little.
    Ndr(Box<NdrArgs>),
}

/// Where frames go out and come in, and who is there.
#[derive(Debug, Clone, Args)]
pub struct PortArgs {
    /// Where: tap:DEVICE, or dpdk:DEVICE.
    #[arg(long, value_name = "KIND:DEVICE")]
    pub port: String,
    /// Our address on the link, with its prefix length; may be given for each family.
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    pub address: Vec<(IpAddr, u8)>,
    /// Where to send what is not on the link.
    #[arg(long, value_name = "IP")]
    pub gateway: Vec<IpAddr>,
    /// Our MAC address on the link.
    #[arg(long, value_name = "MAC", value_parser = mac)]
    pub mac: Option<[u8; 6]>,
    /// Largest IP packet of the link.
    #[arg(long, value_name = "BYTES", default_value_t = 1500, value_parser = clap::value_parser!(u16).range(576..=9198))]
    pub mtu: u16,
    /// The CPU to run on.
    #[arg(long, value_name = "CPU")]
    pub core: Option<u16>,
}

/// Streams of frames, and how they are sent.
#[derive(Debug, Clone, Args)]
pub struct StreamArgs {
    /// What to send.
    #[arg(value_name = "STREAM", required = true)]
    pub streams: Vec<String>,
    /// How fast: 10mpps, 5gbps, 40%, max. Streams: 1kpps; a capture: as it was recorded.
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Rate>,
    /// The speed of the link, for rates in %.
    #[arg(long, value_name = "SPEED", value_parser = speed)]
    pub link: Option<f64>,
    /// How long to send; without it and --count, 10 seconds (a capture: once).
    #[arg(long, value_name = "TIME", value_parser = duration_ns)]
    pub duration: Option<u64>,
    /// How many frames to send, at most.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// How long to wait for late answers.
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = duration_ns)]
    pub linger: u64,
    /// Send the capture again and again.
    #[arg(long = "loop")]
    pub again: bool,
    /// Everything random follows from this.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The report as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Write the latencies of all probes to a file, as HdrHistogram's percentile distribution.
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
}

pub fn cidr(text: &str) -> Result<(IpAddr, u8), String> {
    let wrong = || format!("\"{text}\" is no address with a prefix length; write 10.0.0.2/24");
    let (address, len) = text.split_once('/').ok_or_else(wrong)?;
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let len: u8 = len.parse().ok().filter(|l| *l <= most).ok_or_else(wrong)?;
    Ok((address, len))
}

pub fn duration_ns(text: &str) -> Result<u64, String> {
    let d = units::duration(text).map_err(|e| format!("\"{text}\": {e}"))?;
    Ok(d.as_nanos() as u64)
}

pub fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(Rate::Bits(n)) => Ok(n),
        _ => Err(format!("\"{text}\" is no speed of a link; write 10gbps")),
    }
}

fn mac(text: &str) -> Result<[u8; 6], String> {
    super::spec::mac(text)
}
