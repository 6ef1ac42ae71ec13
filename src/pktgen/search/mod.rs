//! `millrace pktgen ndr`: the highest rate at which a device loses nothing (NDR), or no more than a share (PDR).
//!
//! ```text
//!  method: Search ── next rate ──► trials: Station (the generator, over the same ports) ── sent, back ──╮
//!      ▲                                                                                                │
//!      ╰──────────────────────────────── loss, rate as it was ◄──────────────────────────────────────────╯
//!  at the end: the answers, and every trial that they come from
//! ```

mod method;
mod told;
mod trials;

use std::io::{IsTerminal, Write};
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use clap::Args;

use self::method::{Next, Search, Shown};
use self::told::{Goal, Row, Told};
use self::trials::{Order, Station};
use super::args::{PortArgs, cidr, duration_ns, speed};
use super::generator::{Plan, Tally};
use super::look::Seen;
use super::rate::{FCS_BYTES, GAP_BYTES, Rate, human};
use super::spec::{self, Source, Spec};
use crate::exit;

/// What `--back` counts where nobody said.
const PROBES: &str = "probes";

/// Frames of the smallest trial.
const FRAMES_MIN: f64 = 10.0;

/// `millrace pktgen ndr`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Throughput as RFC 2544, section 26.1 defines it, by bisection: the first trial is as fast as it goes \
    (or --max), the\nsecond a little below the rate at which frames came back then.\n\n\
    Examples:\n  \
    millrace pktgen ndr \"udp dst=10.0.0.1:7 probe size=64\" --port tap:tap0 --address 10.0.0.2/24\n  \
    millrace pktgen ndr \"icmp dst=10.0.0.1 probe\" --port tap:tap0 --address 10.0.0.2/24 --max 200kpps --trial 60s\n  \
    millrace pktgen ndr \"udp dst=10.2.0.2 size=64\" --port tap:in --address 10.1.0.2/24 --gateway 10.1.0.1 \
    --receive tap:out \\\n    --receive-address 10.2.0.2/24 --back udp --pdr 0.1%     a router between two ports\n\n\
    Exit codes: 0 there are answers, 1 nothing could be measured, or it was ended early, 2 usage."
)]
pub struct NdrArgs {
    /// What to send: streams, as pktgen takes them, with the word probe.
    #[arg(value_name = "STREAM", required = true)]
    streams: Vec<String>,
    #[command(flatten)]
    on: PortArgs,
    /// Another port, where what was sent comes out of the device.
    #[arg(long, value_name = "KIND:DEVICE")]
    receive: Option<String>,
    /// Our address on that port, so that the device finds it.
    #[arg(long, value_name = "CIDR", value_parser = cidr, requires = "receive")]
    receive_address: Vec<(IpAddr, u8)>,
    /// What is counted as having come back: probes, or frames of a kind (udp, tcp, syn_ack, rst, echo_reply, other).
    #[arg(long, value_name = "COUNTER", default_value = PROBES, value_parser = back)]
    back: String,
    /// The share of frames that may be lost for the NDR.
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    loss: f64,
    /// The share that may be lost for the PDR.
    #[arg(long, value_name = "SHARE", default_value = "0.5%", value_parser = share)]
    pdr: f64,
    /// How long each trial sends. RFC 2544, section 24 wants 60s for figures that are published.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration_ns)]
    trial: u64,
    /// How long to wait for late frames after each (RFC 2544, section 23: 2s), and for the device to come to rest.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration_ns)]
    linger: u64,
    /// How far apart a rate that passed and one that failed may be in the end.
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = share)]
    resolution: f64,
    /// The highest rate, and the unit of all: 10mpps, 5gbps, 40%. Without it, what the port takes.
    #[arg(long, value_name = "RATE")]
    max: Option<Rate>,
    /// The speed of the link, for rates in %.
    #[arg(long, value_name = "SPEED", value_parser = speed)]
    link: Option<f64>,
    /// Everything random follows from this.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The report as one JSON object.
    #[arg(long)]
    json: bool,
}

/// A share below all: `0.5%`, `0`.
fn share(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').or((text == "0").then_some(text));
    let n = number.and_then(|n| n.parse::<f64>().ok()).filter(|n| (0.0..100.0).contains(n));
    n.map(|n| n / 100.0).ok_or_else(|| format!("\"{text}\" is no share; write 0.5%"))
}

fn back(text: &str) -> Result<String, String> {
    let kinds = || std::iter::once(PROBES).chain(Seen::ALL.iter().map(|s| s.name()));
    match kinds().any(|k| k == text) {
        true => Ok(text.to_owned()),
        false => Err(format!("choose from {}", kinds().collect::<Vec<_>>().join(", "))),
    }
}

/// Runs it.
pub fn main(args: &NdrArgs) -> ExitCode {
    let specs = match specs(args) {
        Ok(s) => s,
        Err(e) => {
            eprintln!("millrace: {e}");
            return exit::usage();
        }
    };
    match search(args, &specs) {
        Ok(true) => exit::DONE,
        Ok(false) => exit::bad(),
        Err(e) => {
            eprintln!("millrace: {e}");
            exit::bad()
        }
    }
}

fn specs(args: &NdrArgs) -> Result<Vec<Spec>, String> {
    if args.resolution <= 0.0 || args.resolution > 0.5 {
        return Err("--resolution must be more than 0% and at most 50%".to_owned());
    }
    if args.pdr < args.loss {
        return Err("--pdr must allow at least as much as --loss".to_owned());
    }
    if args.trial == 0 {
        return Err("a --trial must send for some time; write 10s".to_owned());
    }
    if matches!(args.max, Some(Rate::Percent(_))) && args.link.is_none() {
        return Err("a --max in % needs the speed of the link; add --link 10gbps".to_owned());
    }
    let mut specs = Vec::new();
    for text in &args.streams {
        match spec::parse(text)? {
            Source::Pcap(_) => return Err("a capture has no rate to search; write streams".to_owned()),
            Source::Made(s) if args.back == PROBES && !s.probe => {
                return Err(format!(
                    "what comes back of \"{text}\" cannot be told: add the word probe, or count it as --back udp"
                ));
            }
            Source::Made(s) => specs.push(*s),
        }
    }
    super::check(&specs, args.on.mtu)?;
    Ok(specs)
}

/// What a frame rate is in the unit of the search.
fn in_unit(max: Option<Rate>, link: Option<f64>, frames: f64, bytes: f64) -> f64 {
    match max {
        None | Some(Rate::Packets(_) | Rate::Max) => frames,
        Some(Rate::Bits(_)) => bytes * 8.0,
        Some(Rate::Percent(_)) => (bytes + frames * GAP_BYTES as f64) * 800.0 / link.unwrap_or(f64::INFINITY),
    }
}

/// A number of the search as a rate.
fn rate_of(max: Option<Rate>, n: Option<f64>) -> Rate {
    match (max, n) {
        (_, None) => Rate::Max,
        (Some(Rate::Bits(_)), Some(n)) => Rate::Bits(n),
        (Some(Rate::Percent(_)), Some(n)) => Rate::Percent(n),
        (_, Some(n)) => Rate::Packets(n),
    }
}

/// Gives whether every goal has its answer.
fn search(args: &NdrArgs, specs: &[Spec]) -> Result<bool, String> {
    let enough = Arc::<AtomicBool>::default();
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&enough))
            .map_err(|e| format!("cannot take signals: {e}"))?;
    }
    let second = args.receive.as_ref().map(|port| PortArgs {
        port: port.clone(),
        address: args.receive_address.clone(),
        gateway: Vec::new(),
        mac: None,
        ..args.on.clone()
    });
    let station = Station::open(&args.on, second, Arc::clone(&enough))?;
    let mut told = Told {
        args,
        port: station.ports.clone(),
        goals: vec![Goal { name: "NDR", loss: args.loss }, Goal { name: "PDR", loss: args.pdr }],
        rows: Vec::new(),
    };
    let max = match args.max {
        Some(Rate::Packets(n) | Rate::Bits(n) | Rate::Percent(n)) => Some(n),
        None | Some(Rate::Max) => None,
    };
    // With fewer frames than this in a trial, one more or less is a matter of chance.
    let frames = FRAMES_MIN / (args.trial as f64 / 1e9);
    let least = in_unit(args.max, args.link, frames, frames * spec::SIZE_MIN as f64);
    let goals = told.goals.iter().map(|g| g.loss).collect();
    let mut search = Search::new(goals, args.resolution, max, least);
    let show = |text: &str| {
        if !args.json {
            // A closed pipe (`| head`) is no reason to fail.
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    };
    show(&told.head());
    while let Next::Trial(asked) = search.next() {
        let row = trial(args, specs, &station, asked)?;
        // One that was ended early says little.
        if enough.load(Relaxed) {
            break;
        }
        search.record(Shown { asked, rate: row.rate, loss: row.loss() });
        show(&told.row(told.rows.len(), &row));
        told.rows.push(row);
    }
    station.close()?;
    let answers: Vec<_> = (0..told.goals.len()).map(|n| search.answer(n)).collect();
    if args.json {
        let text = format!("{}\n", told.json(&answers));
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    } else {
        show(&told.end(&answers));
    }
    Ok(answers.iter().all(|a| !matches!(a, method::Answer::Open { .. })))
}

fn trial(args: &NdrArgs, specs: &[Spec], station: &Station, asked: Option<f64>) -> Result<Row, String> {
    let rate = rate_of(args.max, asked);
    let tally = Arc::<Tally>::default();
    let plan = Plan {
        specs: specs.to_vec(),
        capture: None,
        rate: Some(rate),
        link_bps: args.link,
        duration_ns: Some(args.trial),
        count: None,
        linger_ns: args.linger,
        seed: args.seed,
    };
    station.begin(Order { plan, tally: Arc::clone(&tally) })?;
    let kind = Seen::ALL.iter().position(|s| s.name() == args.back);
    let back = || kind.map_or(&tally.probes, |n| &tally.seen[n]).load(Relaxed);
    let tty = std::io::stderr().is_terminal();
    let made = loop {
        if let Some(made) = station.wait(Duration::from_secs(1))? {
            break made;
        }
        if tty {
            let made = tally.made.load(Relaxed);
            eprintln!("  {rate}: made {}, back {}", human(made as f64), human(back() as f64));
        }
    };
    let seconds = (made.end.sending_ns as f64 / 1e9).max(1e-9);
    let (made_frames, made_bytes) = (tally.made.load(Relaxed), tally.made_bytes.load(Relaxed));
    // Of the bytes, the share of frames that were sent.
    let bytes = made_bytes as f64 * made.sent as f64 / (made_frames as f64).max(1.0);
    if made.sent == 0 {
        return Err(format!(
            "at {rate} no frame was sent in a trial; make it longer (--trial), or look at the port"
        ));
    }
    debug_assert!(made_bytes >= made_frames * FCS_BYTES);
    let frames = made.sent as f64 / seconds;
    Ok(Row {
        asked: rate,
        rate: in_unit(args.max, args.link, frames, bytes / seconds),
        frames_per_second: frames,
        bits_per_second: bytes * 8.0 / seconds,
        seconds,
        sent: made.sent,
        back: back(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percent() {
        for (text, n) in [("0", 0.0), ("0%", 0.0), ("0.5%", 0.005), ("10%", 0.1)] {
            assert_eq!(share(text), Ok(n), "{text}");
        }
        for bad in ["", "%", "0.5", "100%", "-1%", "x%", "1%%"] {
            assert!(share(bad).is_err_and(|e| e.contains("write 0.5%")), "{bad}");
        }
        assert_eq!(back("udp").as_deref(), Ok("udp"));
        assert!(back("frames").is_err_and(|e| e.contains("choose from probes, syn_ack")));
    }

    #[test]
    fn rates_are_searched_in_the_unit_of_the_highest() {
        for (max, told) in
            [(None, 1000.0), (Some(Rate::Bits(1e9)), 512_000.0), (Some(Rate::Percent(50.0)), 6.72)]
        {
            let n = in_unit(max, Some(1e7), 1000.0, 64_000.0);
            assert!((n - told).abs() < 1e-9, "{max:?}: {n}");
        }
        assert_eq!(rate_of(None, None), Rate::Max);
        assert_eq!(rate_of(Some(Rate::Percent(50.0)), Some(3.0)), Rate::Percent(3.0));
        assert_eq!(rate_of(Some(Rate::Max), Some(3.0)), Rate::Packets(3.0));
    }
}
