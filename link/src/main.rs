//! `millrace-link`: a link with rate, delay, loss and other faults between two network interfaces, in either direction
//! apart. It is the lab's tc-netem (`scripts/lab/link`), of the same model as the simulator's links
//! (`dataplane::port::link`), and tells with every run how punctual it was.
//!
//! ```text
//!   client's namespace      anywhere                                        edge's namespace
//!   eth0 ──veth── cl0 ─► packet.rs: ring ─► Lane (up)   ─► sendmmsg ─► cl1 ──veth── client0
//!                     ◄─ sendmmsg        ◄─ Lane (down) ◄─ ring     ◄─
//! ```

mod end;
mod packet;
mod report;
mod system;
mod tap;
mod turn;
mod words;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;

use end::Place;

/// The figures taken over the link are good.
const GOOD: u8 = 0;
/// They are not.
const VOID: u8 = 1;
/// Wrong words.
const USAGE: u8 = 2;
/// An end cannot be opened.
const NO_END: u8 = 3;

const AFTER: &str = "\
Both interfaces are the link's alone: best the near ends of two veth pairs, without addresses, in a namespace of their
own. Offloads of the far ends must be off (ethtool -K DEV tx off), so that frames are what a wire would carry.

Ends on SIGTERM, SIGINT or after --for, with a report. Exit code: 0; 1 when the run is void (p99 of lateness above 5 %
of the round trip's delay, or frames lost outside of the model); 2 usage; 3 an end cannot be opened.";

#[derive(Parser)]
#[command(name = "millrace-link", version, about = "A link with faults between two network interfaces", after_help = AFTER)]
#[command(override_usage = "millrace-link [OPTIONS] A B [WORD]...", after_long_help = format!("{}\n\n{AFTER}", words::HELP))]
struct Cli {
    /// One end: [NAMESPACE/]INTERFACE or [NAMESPACE/]tap:NAME
    a: String,
    /// The other
    b: String,
    /// What the link does, like `rate 100mbit delay 10ms` (--help tells all words)
    words: Vec<String>,
    /// What the direction from A to B does, on top of that
    #[arg(long, value_name = "WORDS", default_value = "")]
    up: String,
    /// What the direction from B to A does, on top of that
    #[arg(long, value_name = "WORDS", default_value = "")]
    down: String,
    /// Of all that is random
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// End after this time
    #[arg(long = "for", value_name = "TIME", value_parser = words::time)]
    run_ns: Option<u64>,
    /// Between two lines of news
    #[arg(long = "every", value_name = "TIME", default_value = "1s", value_parser = words::time)]
    every_ns: u64,
    /// No news before the report
    #[arg(long)]
    quiet: bool,
    /// An object a line instead of text: when it is ready, each second, and at the end
    #[arg(long)]
    json: bool,
    /// Stay on this CPU
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// Do not sleep through the last part before a frame is due
    #[arg(long = "spin", value_name = "TIME", default_value = "20us", value_parser = words::time)]
    spin_ns: u64,
    /// Do not run before other processes
    #[arg(long)]
    no_realtime: bool,
    /// Bytes in flight in each direction
    #[arg(long = "memory", value_name = "SIZE", default_value = "256mb", value_parser = words::size)]
    bound_bytes: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (code, e) = match run(&cli) {
        Ok(code) => return ExitCode::from(code),
        Err(e) => e,
    };
    eprintln!("millrace-link: {e}");
    ExitCode::from(code)
}

/// Prints without minding that nobody reads.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.trim_end());
    let _ = out.flush();
}

fn run(cli: &Cli) -> Result<u8, (u8, String)> {
    let usage = |e| (USAGE, e);
    let words = format!("{} up {} down {}", cli.words.join(" "), cli.up, cli.down);
    let (up, down) = words::read_both(&words).map_err(usage)?;
    let places = (Place::parse(&cli.a).map_err(usage)?, Place::parse(&cli.b).map_err(usage)?);
    if cli.every_ns == 0 {
        return Err(usage(
            "--every 0s: a time above zero is needed; --quiet leaves the lines out".to_owned(),
        ));
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [libc::SIGTERM, libc::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|e| (NO_END, e.to_string()))?;
    }
    let no_end = |e| (NO_END, e);
    let mut ends = (places.0.open().map_err(no_end)?, places.1.open().map_err(no_end)?);
    if let Some(cpu) = cli.cpu {
        system::pin(cpu).map_err(usage)?;
    }
    system::sharp_timers();
    let real_time = !cli.no_realtime && system::real_time();
    let (told_up, told_down) = (words::tell(&up), words::tell(&down));
    if cli.json {
        let ready = serde_json::json!({
            "event": "ready", "a": places.0.to_string(), "b": places.1.to_string(), "up": told_up, "down": told_down,
            "seed": cli.seed, "real_time": real_time,
        });
        say(&ready.to_string());
    } else {
        let class = if real_time { "real-time" } else { "not real-time" };
        say(&format!(
            "ready: {} to {}, seed {}, {class}\n  up: {told_up}\n  down: {told_down}",
            places.0, places.1, cli.seed
        ));
    }
    let settings = turn::Settings {
        seed: cli.seed,
        bound_bytes: cli.bound_bytes,
        spin_ns: cli.spin_ns,
        run_ns: cli.run_ns,
        every_ns: cli.every_ns,
    };
    let mut lines = report::Lines::new();
    let turning = turn::turn(&mut ends, (up, down), &settings, &stop, |t| match (cli.quiet, cli.json) {
        (true, _) => {}
        (false, true) => say(&report::json(t, "news", system::cpu_ns()).to_string()),
        (false, false) => say(&lines.next(t)),
    });
    let turning = turning.map_err(|e| (NO_END, e.to_string()))?;
    match cli.json {
        true => say(&report::json(&turning, "end", system::cpu_ns()).to_string()),
        false => say(&report::text(&turning, system::cpu_ns())),
    }
    Ok(if report::void(&turning).is_empty() { GOOD } else { VOID })
}
