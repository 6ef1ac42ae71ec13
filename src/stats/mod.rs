//! `millrace stats`: reads the counters segment of a running node. Costs its cores nothing.

mod json;
mod text;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use dataplane::counters::Segment;

use serde_json::Value;

pub use json::json;
pub use text::Screen;

use crate::cli::StatsArgs;
use crate::control::totals::table;
use crate::control::{self, Request};
use crate::exit;
use crate::rundir::{Found, RunDir};

/// The sections that can be asked for by name.
pub const SECTIONS: &[&str] =
    &["node", "stages", "law", "drops", "http", "cache", "tls", "tcp", "latency", "all"];

/// How long the node may take to add up.
const PATIENCE: Duration = Duration::from_secs(30);

/// `millrace stats`
pub fn main(args: StatsArgs) -> ExitCode {
    if let Some(s) = &args.section
        && !SECTIONS.contains(&s.as_str())
    {
        eprintln!("millrace: there is no section \"{s}\"; choose from {}", SECTIONS.join(", "));
        return exit::usage();
    }
    let found = match RunDir::find(args.node.as_deref()) {
        Ok(f) => f,
        Err(e) => {
            eprintln!("millrace: {e}");
            return e.exit_code();
        }
    };
    let segment = match Segment::open(&found.path.join("counters")) {
        Ok(s) => s,
        Err(e) => {
            eprintln!("millrace: {e}");
            return exit::unreachable();
        }
    };
    let section = args.section.as_deref().unwrap_or("");
    // By listener and algorithm only the node itself can say; the counters are there without it.
    let totals = || if section == "tcp" { totals(&found) } else { None };
    if !args.watch {
        let text = if args.json {
            one_json(&segment, section, totals())
        } else {
            with_totals(text::report(&segment, section, None), totals())
        };
        return print(&text);
    }
    watch(&args, &segment, section, &totals)
}

/// What connections have done, by listener and congestion control, as the node tells it.
fn totals(found: &Found) -> Option<Value> {
    let answer = control::call(&found.control_socket(), &Request::new("tcp_totals"), PATIENCE).ok()?;
    answer.fields.get("tcp").filter(|_| answer.ok).cloned()
}

fn with_totals(text: String, totals: Option<Value>) -> String {
    match totals {
        Some(tcp) => format!("{}\n{text}", table(&tcp)),
        None => text,
    }
}

fn watch(args: &StatsArgs, segment: &Segment, section: &str, totals: &dyn Fn() -> Option<Value>) -> ExitCode {
    let tty = std::io::stdout().is_terminal();
    let mut screen = Screen::new(tty && !args.json);
    loop {
        if args.json {
            if writeln!(std::io::stdout(), "{}", one_json(segment, section, totals())).is_err() {
                return exit::DONE;
            }
        } else if !screen.draw_section(&totals().map(|t| table(&t)).unwrap_or_default(), segment, section) {
            return exit::DONE;
        }
        std::thread::sleep(Duration::from_secs(1));
        if !alive(segment) {
            eprintln!("millrace: the node has ended");
            return exit::unreachable();
        }
    }
}

fn alive(segment: &Segment) -> bool {
    segment.state() != Some(dataplane::counters::NodeState::Stopped)
        && rustix::process::Pid::from_raw(segment.pid() as i32)
            .is_some_and(|p| rustix::process::test_kill_process(p).is_ok())
}

fn one_json(segment: &Segment, section: &str, totals: Option<Value>) -> String {
    let all = json(segment);
    if section == "tcp" {
        return serde_json::json!({ "counters": all["counters"], "tcp": totals }).to_string();
    }
    if let ("cache" | "tls", Value::Object(counters)) = (section, &all["counters"]) {
        let prefix = format!("{section}.");
        let its = counters.iter().filter(|(name, _)| name.starts_with(&prefix));
        let its: serde_json::Map<String, Value> = its.map(|(name, n)| (name.clone(), n.clone())).collect();
        return serde_json::json!({ "counters": its }).to_string();
    }
    let key = match section {
        "law" => "conservation",
        s => s,
    };
    match all.get(key) {
        Some(part) => serde_json::json!({ key: part }).to_string(),
        None => all.to_string(),
    }
}

fn print(text: &str) -> ExitCode {
    // A closed pipe (`| head`) is no reason to panic.
    let _ = writeln!(std::io::stdout(), "{text}");
    exit::DONE
}
