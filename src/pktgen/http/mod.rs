//! `millrace pktgen http`: our own TCP stack as a load client.
//!
//! ```text
//!  command line, mix ─► Plan ─► Client, a Pipeline of the core loop ◄──► Port
//!                                  │ plain stores
//!                                  ▼
//!                                Tally ─► a line each second, and the Report
//! ```
//!
//! A closed loop asks again when it is answered; an open loop asks when it is due, and counts latency from then, so that
//! a server that stalls cannot hide it. `client` says what happens in a pass.

mod args;
pub mod arrivals;
mod ask;
mod client;
mod connect;
mod mix;
pub mod plan;
mod report;
pub mod request;
mod response;
mod ring;
mod slot;
pub mod sources;
pub mod tally;
pub mod tls;
mod url;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dataplane::core_loop::Core;
use dataplane::counters::{Histogram, Segment};
use dataplane::{Clock, Pool};
use hugepages::PagePolicy;
use stack::Net;
use stack::neigh::Neighbours;

pub use self::args::HttpArgs;
pub use self::client::{Client, Outside};
use self::plan::Plan;
use self::report::{Report, Run};
use self::tally::{Count, End, Tally};
use super::generator::TX_BOUND;
use super::rate::human;
use super::report::write_hdr;
use crate::exit;

/// `millrace pktgen http`
pub fn main(args: &HttpArgs) -> ExitCode {
    let plan = match args.plan() {
        Ok(p) => p,
        Err(e) => {
            eprintln!("millrace: {e}");
            return exit::usage();
        }
    };
    match run(args, &plan) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("millrace: {e}");
            exit::bad()
        }
    }
}

fn run(args: &HttpArgs, plan: &Plan) -> Result<ExitCode, String> {
    let tally = Arc::<Tally>::default();
    let (stop, enough) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&enough))
            .map_err(|e| format!("cannot take signals: {e}"))?;
    }
    let segment = Segment::in_memory(1);
    let (tell_core, core_of) = mpsc::channel();
    let (end, end_of) = mpsc::channel();
    let thread = {
        let (args, plan, segment) = (args.clone(), plan.clone(), Arc::clone(&segment));
        let outside = Outside { tally: Arc::clone(&tally), stop: Arc::clone(&stop), enough, end };
        std::thread::Builder::new()
            .name("millrace-pktgen".to_owned())
            .spawn(move || {
                // On the thread that polls it, so that memory lies where it is used.
                let built = core(&args, plan, &segment, outside);
                match built {
                    Ok((mut core, port, memory)) => {
                        let _ = tell_core.send(Ok((port, memory)));
                        let clock = Clock::calibrated();
                        let before = cpu_ns();
                        core.run(&clock, &stop);
                        (cpu_ns().saturating_sub(before), clock.cycles_per_second())
                    }
                    Err(e) => {
                        let _ = tell_core.send(Err(e));
                        (0, 1)
                    }
                }
            })
            .map_err(|e| format!("cannot start a thread: {e}"))?
    };
    let (port, memory_bytes) =
        core_of.recv().map_err(|_| "the core ended before it asked; its message is above")??;
    let end = watch(&end_of, &tally)?;
    let (cpu_ns, hz) = thread.join().map_err(|_| "the core has panicked; its message is above")?;
    if let Some(why) = end.failed {
        return Err(why);
    }
    let counters = segment.read();
    let run = Run { port, memory_bytes, cpu_ns, hz };
    let report = Report { plan, end: &end, tally: &tally, counters: &counters, run: &run };
    let text = if args.json { format!("{}\n", report.json()) } else { report.text() };
    // A closed pipe (`| head`) is no reason to fail.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    if let Some(file) = &args.hdr {
        write_hdr(file, &tally.latency.read())
            .map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    }
    let wrong = tally.get(Count::WrongStatus) + tally.get(Count::WrongBody);
    Ok(if tally.get(Count::Responses) > 0 && wrong == 0 { exit::DONE } else { exit::bad() })
}

/// What this thread has had of a CPU, in nanoseconds.
fn cpu_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Waits for the end; on a terminal, a block each second until then.
fn watch(end_of: &mpsc::Receiver<End>, tally: &Tally) -> Result<End, String> {
    let tty = std::io::stderr().is_terminal();
    let mut seen = Seen::of(tally);
    loop {
        match end_of.recv_timeout(Duration::from_secs(1)) {
            Ok(end) => return Ok(end),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err("the core ended before its report; its message is above".to_owned());
            }
            Err(mpsc::RecvTimeoutError::Timeout) if tty => {
                let now = Seen::of(tally);
                eprintln!("{}", now.line(&seen, tally));
                seen = now;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
    }
}

/// The tally at one moment.
struct Seen {
    at: Instant,
    responses: u64,
    errors: u64,
    latency: Vec<u64>,
}

impl Seen {
    fn of(tally: &Tally) -> Seen {
        Seen {
            at: Instant::now(),
            responses: tally.get(Count::Responses),
            errors: tally.errors(),
            latency: tally.latency.counts().collect(),
        }
    }

    /// What has happened since `before`.
    fn line(&self, before: &Seen, tally: &Tally) -> String {
        let open = tally.open.load(Relaxed);
        let stage = match tally.stage.load(Relaxed) {
            0 => return format!("opening connections: {open} open"),
            1 => "warming up; ",
            2 => "",
            _ => "waiting for late answers; ",
        };
        let seconds = self.at.duration_since(before.at).as_secs_f64();
        let mut last = Histogram::default();
        for (bucket, (now, then)) in self.latency.iter().zip(&before.latency).enumerate() {
            last.add(bucket, now - then);
        }
        let us = |q| last.quantile(q) as f64 / 1e3;
        let waiting = match tally.waiting.load(Relaxed) {
            0 => String::new(),
            n => format!(", {n} waiting"),
        };
        format!(
            "{stage}{}/s  {} in flight{waiting}  {open} open  errors {} (+{})  p50 {:.1} µs  p99 {:.1} µs",
            human((self.responses - before.responses) as f64 / seconds),
            tally.in_flight.load(Relaxed),
            self.errors,
            self.errors - before.errors,
            us(0.5),
            us(0.99),
        )
    }
}

/// The core, its port as it runs, and the bytes that it has reserved.
fn core(
    args: &HttpArgs,
    plan: Plan,
    segment: &Arc<Segment>,
    outside: Outside,
) -> Result<(Core<Client>, String, u64), String> {
    let on = &args.on;
    if let Some(cpu) = on.core {
        crate::node::pin(cpu);
    }
    let port = super::port::open(&on.port, on.mac, on.mtu, 0)?;
    let facts = port.facts().clone();
    let mut iface = super::port::iface(on, &facts)?;
    iface.tx_checksum_offload = facts.tx_checksum_offload;
    for s in &plan.sources {
        iface.add_range(s.first, s.last);
    }
    let counters = segment.writer(0);
    let pages = PagePolicy::Best;
    let headers = Pool::reserve("header", plan::HEADER_CELLS, plan::HEADER_CELL_BYTES, pages)
        .map_err(|e| e.to_string())?;
    let net = Net::new(vec![iface], Neighbours::new(256), headers, counters.clone());
    let rx = port.rx_pool().clone();
    let memory = plan.memory_bytes(rx.capacity(), rx.cell_bytes());
    let client = Client::new(net, rx, plan, outside, counters.clone(), pages)?;
    let said = format!("{}:{} ({})", facts.kind, facts.device, facts.mode);
    Ok((Core::new(vec![port], client, counters, TX_BOUND), said, memory))
}
