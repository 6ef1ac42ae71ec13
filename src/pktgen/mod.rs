//! `millrace pktgen`: frames made and sent at a rate over any port, and what comes back of them.
//!
//! ```text
//!  STREAM ─ spec ─► Stream (frames: template, fields varied in place) ─╮
//!  pcap:FILE ─────► Replay ─────────────────────────────────────────── ┤ by weight, as the Pacer allows
//!                                                                      ▼
//!                            Generator, a Pipeline of the core loop ◄──► Port
//!  what comes back ─ look ─► counts by kind; probe ─► loss, order, latency ─► Report
//! ```
//!
//! ARP, ND and echo requests are answered by the stack's own code, so that what is tested can find us. TCP that comes
//! back is counted and not answered: no RST ends what a SYN has begun.

mod args;
mod compare;
mod field;
mod frames;
mod generator;
pub mod http;
mod look;
mod port;
mod probe;
mod rate;
mod replay;
mod report;
mod search;
mod spec;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dataplane::core_loop::Core;
use dataplane::counters::Segment;
use dataplane::{Clock, Ctr, Port};
use stack::Iface;

pub use self::args::PktgenArgs;
use self::args::{PortArgs, StreamArgs, Tool};
pub use self::generator::Generator;
use self::generator::{End, Plan, TX_BOUND, Tally};
use self::rate::{Rate, human};
use self::replay::Capture;
use self::report::{Report, write_hdr};
use self::spec::Source;
use crate::exit;

/// What is sent where nobody said how fast: harmless.
const RATE_BY_DEFAULT: Rate = Rate::Packets(1000.0);
const DURATION_BY_DEFAULT_NS: u64 = 10_000_000_000;
/// Streams of one run.
const STREAMS_MAX: usize = 64;

/// `millrace pktgen`
pub fn main(args: PktgenArgs) -> ExitCode {
    match args.tool {
        Some(Tool::Http(args)) => http::main(&args),
        Some(Tool::Compare(args)) => compare::main(&args),
        Some(Tool::Ndr(args)) => search::main(&args),
        // clap asks for both where there is no tool.
        None => args.on.zip(args.streams).map_or_else(exit::usage, |(on, a)| streams(&on, &a)),
    }
}

fn streams(on: &PortArgs, args: &StreamArgs) -> ExitCode {
    let plan = match plan(on, args) {
        Ok(p) => p,
        Err(e) => {
            eprintln!("millrace: {e}");
            return exit::usage();
        }
    };
    match run(on, args, plan) {
        Ok(()) => exit::DONE,
        Err(e) => {
            eprintln!("millrace: {e}");
            exit::bad()
        }
    }
}

fn plan(on: &PortArgs, args: &StreamArgs) -> Result<Plan, String> {
    let (mut specs, mut capture) = (Vec::new(), None);
    for text in &args.streams {
        match spec::parse(text)? {
            Source::Made(s) => specs.push(*s),
            Source::Pcap(_) if args.streams.len() > 1 => {
                return Err("a capture is sent alone; leave the other streams out".to_owned());
            }
            Source::Pcap(file) => capture = Some((Capture::open(&file)?, args.again)),
        }
    }
    check(&specs, on.mtu)?;
    let is_replay = capture.is_some();
    let endless = args.duration.is_none() && args.count.is_none();
    let once = is_replay && !args.again;
    Ok(Plan {
        specs,
        capture,
        rate: args.rate.or((!is_replay).then_some(RATE_BY_DEFAULT)),
        link_bps: args.link,
        duration_ns: if endless && !once { Some(DURATION_BY_DEFAULT_NS) } else { args.duration },
        count: args.count,
        linger_ns: args.linger,
        seed: args.seed,
    })
}

/// Whether so many streams, and frames so large, can be sent.
fn check(specs: &[spec::Spec], mtu: u16) -> Result<(), String> {
    if specs.len() > STREAMS_MAX {
        return Err(format!("{} streams are too many; {STREAMS_MAX} fit", specs.len()));
    }
    let most = u64::from(mtu) + 18 + rate::FCS_BYTES;
    match specs.iter().find(|s| s.size.largest() > most) {
        Some(s) => Err(format!(
            "frames of {} bytes do not fit an MTU of {mtu}; add --mtu, or make them smaller",
            s.size.largest()
        )),
        None => Ok(()),
    }
}

fn run(on: &PortArgs, args: &StreamArgs, plan: Plan) -> Result<(), String> {
    let tally = Arc::<Tally>::default();
    let (stop, enough) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&enough))
            .map_err(|e| format!("cannot take signals: {e}"))?;
    }
    let segment = Segment::in_memory(1);
    let rate = plan.rate.map_or("as recorded".to_owned(), |r| r.to_string());
    let (tell_port, port_of) = mpsc::channel();
    let (tell_end, end_of) = mpsc::channel();
    let thread = {
        let (on, segment, tally) = (on.clone(), Arc::clone(&segment), Arc::clone(&tally));
        let (stop, enough) = (Arc::clone(&stop), Arc::clone(&enough));
        std::thread::Builder::new()
            .name("millrace-pktgen".to_owned())
            .spawn(move || {
                // On the thread that polls it, so that memory lies where it is used.
                let built = core(&on, plan, &segment, tally, [Arc::clone(&stop), enough], tell_end);
                match built {
                    Ok((mut core, port)) => {
                        let _ = tell_port.send(Ok(port));
                        core.run(&Clock::calibrated(), &stop);
                    }
                    Err(e) => drop(tell_port.send(Err(e))),
                }
            })
            .map_err(|e| format!("cannot start a thread: {e}"))?
    };
    let port = port_of.recv().map_err(|_| "the core ended before it sent; its message is above")??;
    let end = watch(&end_of, &segment, &tally)?;
    thread.join().map_err(|_| "the core has panicked; its message is above")?;
    if let Some(why) = end.failed {
        return Err(why);
    }
    let counters = segment.read();
    let report = Report { end: &end, tally: &tally, counters: &counters, port, rate };
    let text = if args.json { format!("{}\n", report.json()) } else { report.text() };
    // A closed pipe (`| head`) is no reason to fail.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    if let Some(file) = &args.hdr {
        let mut all = dataplane::counters::Histogram::default();
        end.streams.iter().filter_map(|s| s.probes.as_ref()).for_each(|p| all.merge(&p.latency));
        write_hdr(file, &all).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    }
    Ok(())
}

/// Waits for the end; on a terminal, a line each second until then.
fn watch(end_of: &mpsc::Receiver<End>, segment: &Segment, tally: &Tally) -> Result<End, String> {
    let tty = std::io::stderr().is_terminal();
    let (mut sent, mut got, mut last) = (0, 0, Instant::now());
    loop {
        match end_of.recv_timeout(Duration::from_secs(1)) {
            Ok(end) => return Ok(end),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err("the core ended before its report; its message is above".to_owned());
            }
            Err(mpsc::RecvTimeoutError::Timeout) if tty => {
                let c = segment.read();
                let (s, r, t) = (c.get(Ctr::TxSent), c.get(Ctr::RxPackets), last.elapsed().as_secs_f64());
                let state = if tally.sending.load(Relaxed) { "" } else { "asking for stations; " };
                eprintln!(
                    "{state}tx {}pps  rx {}pps  probes back {}",
                    human((s - sent) as f64 / t),
                    human((r - got) as f64 / t),
                    tally.probes.load(Relaxed)
                );
                (sent, got, last) = (s, r, Instant::now());
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
    }
}

fn core(
    on: &PortArgs,
    plan: Plan,
    segment: &Arc<Segment>,
    tally: Arc<Tally>,
    signs: [Arc<AtomicBool>; 2],
    end: mpsc::Sender<End>,
) -> Result<(Core<Generator>, String), String> {
    if let Some(cpu) = on.core {
        crate::node::pin(cpu);
    }
    let port = port::open(&on.port, on.mac, on.mtu, 0)?;
    let facts = port.facts().clone();
    let iface = port::iface(on, &facts)?;
    let said = format!("{}:{} ({})", facts.kind, facts.device, facts.mode);
    Ok((on_port(port, iface, plan, segment, tally, signs, end)?, said))
}

fn on_port(
    port: Box<dyn Port>,
    iface: Iface,
    plan: Plan,
    segment: &Arc<Segment>,
    tally: Arc<Tally>,
    signs: [Arc<AtomicBool>; 2],
    end: mpsc::Sender<End>,
) -> Result<Core<Generator>, String> {
    let counters = segment.writer(0);
    let pool = port::frames(&*port);
    let generator = port::generator(vec![iface], pool, plan, &counters, tally, signs, end)?;
    Ok(Core::new(vec![port], generator, counters, TX_BOUND))
}

/// A core that sends streams over a port for as long as it is turned, as fast as the port takes them: for benches, and
/// tests of what a pass costs. The port has the address 10.0.0.2/24; streams must say `dstmac=`.
///
/// # Errors
/// One sentence: a stream that is none, or no memory.
pub fn endless(
    port: Box<dyn Port>,
    streams: &[&str],
    segment: &Arc<Segment>,
) -> Result<Core<Generator>, String> {
    let mut specs = Vec::new();
    for text in streams {
        match spec::parse(text)? {
            Source::Made(s) => specs.push(*s),
            Source::Pcap(_) => return Err("a capture ends".to_owned()),
        }
    }
    let plan = Plan {
        specs,
        capture: None,
        rate: Some(Rate::Max),
        link_bps: None,
        duration_ns: None,
        count: None,
        linger_ns: 0,
        seed: 1,
    };
    let mut iface = Iface::new(port.facts().mac, port.facts().mtu);
    iface.add(std::net::Ipv4Addr::new(10, 0, 0, 2).into(), 24);
    let (end, _) = mpsc::channel();
    on_port(port, iface, plan, segment, Arc::default(), Default::default(), end)
}
