//! What `millrace flows` asks for: its arguments on the command line, how they cross the control socket, and what a
//! connection looks like in the answer.
//!
//! A node answers a page at a time, from the places at which the last page ended. Without an order the connections are
//! printed as they come, so that neither side ever holds all of them.

mod filter;
mod text;

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};
use stack::tcp::Phase;
use stack::{Addr, FlowInfo};

pub use filter::Filter;
pub use text::rate;

use super::client::ANSWER_PATIENCE;
use super::{Answer, Request, call};
use crate::config::Listener;
use crate::exit;
use crate::rundir::RunDir;

/// Connections that are kept while an order is made of them, at least.
const KEPT_MIN: usize = 4096;

/// `millrace flows`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    millrace flows                                   every connection, as ss -ti shows the kernel's\n  \
    millrace flows --state established --sort retransmits --limit 10\n  \
    millrace flows --peer 198.51.100.0/24 --role client\n  \
    millrace flows --local :80 --algorithm bbr --json   {\"flows\": [{\"local\", \"peer\", \"state\", \"srtt_us\", …}], \"seen\"}\n\n\
    Every core copies a few of its connections in a pass while somebody asks, and nothing else. All fields are described \
    in docs/flows.md.\n\n\
    Exit codes: 0 done, also when nothing matched; 1 a core does not answer; 2 usage, or several nodes run and --node was \
    not given; 3 no such node.")]
pub struct FlowsArgs {
    /// Only these states, separated by commas: ESTAB, SYN-RECV, FIN-WAIT-1, …
    #[arg(long, value_name = "STATES")]
    state: Option<String>,
    /// Only connections that came by this listener: its number in the config, from 0.
    #[arg(long, value_name = "N")]
    listener: Option<String>,
    /// Only connections under this congestion control.
    #[arg(long, value_name = "NAME")]
    algorithm: Option<String>,
    /// Only connections with a client, or only those with an origin.
    #[arg(long, value_name = "client|origin")]
    role: Option<String>,
    /// Only this end over there: 198.51.100.7, 198.51.100.0/24:443, [2001:db8::]/32, :443.
    #[arg(long, value_name = "PREFIX[:PORT]")]
    peer: Option<String>,
    /// Only this end here, written as with --peer.
    #[arg(long, value_name = "PREFIX[:PORT]")]
    local: Option<String>,
    /// The greatest first: srtt, cwnd, pacing, in-flight, send-queue, receive-queue, retransmits, sent, acked, received,
    /// idle.
    #[arg(long, value_name = "BY", value_parser = sort_key)]
    sort: Option<&'static str>,
    /// No more than this many.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Which node: its name, or the path of its run directory.
    #[arg(long, value_name = "NAME|PATH")]
    node: Option<String>,
    /// Answer as one JSON object.
    #[arg(long)]
    json: bool,
}

/// What can be sorted by, and the field that it is.
const SORTS: [(&str, &str); 11] = [
    ("srtt", "srtt_us"),
    ("cwnd", "cwnd_bytes"),
    ("pacing", "pacing_bytes_per_second"),
    ("in-flight", "in_flight_bytes"),
    ("send-queue", "send_queue_bytes"),
    ("receive-queue", "receive_queue_bytes"),
    ("retransmits", "retransmitted_segments"),
    ("sent", "bytes_sent"),
    ("acked", "bytes_acked"),
    ("received", "bytes_received"),
    ("idle", "since_received_us"),
];

fn sort_key(text: &str) -> Result<&'static str, String> {
    SORTS.iter().find(|(name, _)| *name == text).map(|(_, field)| *field).ok_or_else(|| {
        let names: Vec<&str> = SORTS.iter().map(|(name, _)| *name).collect();
        format!("choose from {}", names.join(", "))
    })
}

/// Which `[[listener]]` a listener of the engine's belongs to: it has one for each address.
#[derive(Debug, Clone, Default)]
pub struct Listeners(Vec<u16>);

impl Listeners {
    /// Those of a config.
    pub fn of(config: &[Listener]) -> Listeners {
        let each = config.iter().enumerate().flat_map(|(n, l)| l.addresses.iter().map(move |_| n as u16));
        Listeners(each.collect())
    }

    /// The number in the config of the engine's listener of this number.
    pub fn of_tcp(&self, number: u16) -> Option<u16> {
        self.0.get(usize::from(number)).copied()
    }

    /// The number in the config of the engine's listener; `None` for a connection that we opened.
    fn number(&self, flow: &FlowInfo) -> Option<u16> {
        if flow.active { None } else { self.of_tcp(flow.listener) }
    }
}

/// Who is on the other side.
fn role(flow: &FlowInfo) -> &'static str {
    if flow.active { "origin" } else { "client" }
}

fn end(addr: &Addr, port: u16) -> String {
    std::net::SocketAddr::new(addr.ip(), port).to_string()
}

/// A connection in an answer. The fields are stable, and described in docs/flows.md.
pub fn to_json(flow: &FlowInfo, core: usize, listeners: &Listeners) -> Value {
    let t = &flow.tuple;
    let mut all = json!({
        "local": end(&t.local, t.local_port),
        "peer": end(&t.remote, t.remote_port),
        "state": flow.state.name(),
        "core": core,
        "port": flow.port,
        "role": role(flow),
        "listener": listeners.number(flow),
        "orphan": flow.orphan,
        "algorithm": flow.algorithm.name(),
        "options": options(flow),
        "mss_bytes": flow.mss,
        "peer_mss_bytes": flow.rcv_mss,
        "send_wscale": flow.scaled.then_some(flow.wscale.0),
        "receive_wscale": flow.scaled.then_some(flow.wscale.1),
        "send_window_bytes": flow.snd_wnd,
        "receive_window_bytes": flow.rcv_wnd,
        "send_queue_bytes": flow.send_queue,
        "receive_queue_bytes": flow.receive_queue,
        "since_sent_us": flow.since_sent_us,
        "since_received_us": flow.since_heard_us,
    });
    if let (Value::Object(all), [Value::Object(a), Value::Object(b)]) =
        (&mut all, [path_of(flow), counts_of(flow)])
    {
        all.extend(a.into_iter().chain(b));
    }
    all
}

/// What it knows of its path.
fn path_of(flow: &FlowInfo) -> Value {
    json!({
        "srtt_us": flow.srtt_us,
        "rttvar_us": flow.rttvar_us,
        "min_rtt_us": flow.min_rtt_us,
        "rto_us": flow.rto_us,
        "backoff": flow.backoff,
        "cwnd_bytes": flow.cwnd,
        "ssthresh_bytes": (flow.ssthresh != u32::MAX).then_some(flow.ssthresh),
        "pacing_bytes_per_second": flow.pacing_rate,
        "recovery": phase(flow),
        "in_flight_bytes": flow.in_flight,
        "unacked_bytes": flow.unacked,
        "sacked_bytes": flow.sacked,
    })
}

/// What it has done in all.
fn counts_of(flow: &FlowInfo) -> Value {
    json!({
        "bytes_sent": flow.bytes_acked + u64::from(flow.unacked),
        "bytes_acked": flow.bytes_acked,
        "bytes_received": flow.bytes_received,
        "segments_sent": flow.tally.segments_out,
        "segments_received": flow.tally.segments_in,
        "retransmitted_segments": flow.tally.resent,
        "retransmitted_bytes": flow.bytes_resent,
        "lost_bytes": flow.bytes_lost,
        "timeouts": flow.tally.timeouts,
        "recoveries": flow.tally.recoveries,
        "tail_probes": flow.tally.tail_probes,
        "undone": flow.tally.undone,
        "busy_us": flow.busy_us,
    })
}

/// What loss recovery is doing, in Linux's words.
fn phase(flow: &FlowInfo) -> &'static str {
    match flow.phase {
        Phase::Open => "open",
        Phase::Reduced => "cwr",
        Phase::Recovery => "recovery",
        Phase::Loss => "loss",
    }
}

/// What both sides have agreed on.
fn options(flow: &FlowInfo) -> Vec<&'static str> {
    let all = [("ts", flow.timestamps), ("sack", flow.sack), ("ecn", flow.ecn), ("wscale", flow.scaled)];
    all.into_iter().filter_map(|(name, on)| on.then_some(name)).collect()
}

impl FlowsArgs {
    /// Asks the node; prints what it says.
    pub fn run(&self) -> ExitCode {
        // Before the node is asked: a slip is this side's to tell.
        let args = self.args();
        if let Err(e) = Filter::of(&args) {
            eprintln!("millrace: {e}");
            return exit::usage();
        }
        let found = match RunDir::find(self.node.as_deref()) {
            Ok(f) => f,
            Err(e) => {
                eprintln!("millrace: {e}");
                return e.exit_code();
            }
        };
        let mut out = BufWriter::new(io::stdout().lock());
        match self.show(&found.control_socket(), args, &mut out) {
            Ok(()) => exit::DONE,
            Err(Failed::Node(sentence, code)) => {
                drop(out);
                eprintln!("millrace: {sentence}");
                code
            }
            // A closed pipe (`| head`) is no reason to complain.
            Err(Failed::Output) => exit::DONE,
        }
    }

    /// The filter as it crosses the socket.
    fn args(&self) -> Map<String, Value> {
        let given = [
            ("state", &self.state),
            ("listener", &self.listener),
            ("algorithm", &self.algorithm),
            ("role", &self.role),
            ("peer", &self.peer),
            ("local", &self.local),
        ];
        let text = |(name, value): (&str, &Option<String>)| {
            value.as_ref().map(|v| (name.to_owned(), Value::from(v.as_str())))
        };
        given.into_iter().filter_map(text).collect()
    }

    fn show(&self, socket: &Path, args: Map<String, Value>, out: &mut impl Write) -> Result<(), Failed> {
        let limit = self.limit.unwrap_or(usize::MAX);
        let mut printer = Printer { json: self.json, shown: 0 };
        let (mut kept, mut seen) = (Vec::new(), 0);
        let mut from = Value::Null;
        printer.begin(out)?;
        loop {
            let mut args = args.clone();
            args.insert("from".to_owned(), from);
            let answer = ask(socket, args)?;
            seen += answer.fields.get("seen").and_then(Value::as_u64).unwrap_or(0);
            let mut flows = match answer.fields.get("flows") {
                Some(Value::Array(flows)) => flows.clone(),
                _ => Vec::new(),
            };
            from = answer.fields.get("next").cloned().unwrap_or_default();
            match self.sort {
                None => {
                    flows.truncate(limit - printer.shown.min(limit));
                    printer.flows(out, &flows)?;
                }
                Some(by) => {
                    kept.append(&mut flows);
                    if kept.len() >= limit.saturating_mul(2).max(KEPT_MIN) {
                        greatest(&mut kept, by, limit);
                    }
                }
            }
            if from.is_null() || printer.shown >= limit {
                break;
            }
        }
        if let Some(by) = self.sort {
            greatest(&mut kept, by, limit);
            printer.flows(out, &kept)?;
        }
        Ok(printer.end(out, seen)?)
    }
}

/// Why not everything was shown.
enum Failed {
    Node(String, ExitCode),
    Output,
}

impl From<io::Error> for Failed {
    fn from(_: io::Error) -> Failed {
        Failed::Output
    }
}

fn ask(socket: &Path, args: Map<String, Value>) -> Result<Answer, Failed> {
    let request = Request { verb: "flows".to_owned(), args };
    let answer = call(socket, &request, ANSWER_PATIENCE)
        .map_err(|e| Failed::Node(e.to_string(), exit::unreachable()))?;
    if answer.ok { Ok(answer) } else { Err(Failed::Node(answer.text, ExitCode::from(answer.exit))) }
}

/// Orders by a field, the greatest first, and keeps the first `limit`.
fn greatest(flows: &mut Vec<Value>, by: &str, limit: usize) {
    flows.sort_by_key(|f| std::cmp::Reverse(f[by].as_u64().unwrap_or(0)));
    flows.truncate(limit);
}

/// Prints as they come.
struct Printer {
    json: bool,
    shown: usize,
}

impl Printer {
    fn begin(&self, out: &mut impl Write) -> io::Result<()> {
        if self.json { write!(out, "{{\"flows\": [") } else { writeln!(out, "{}", text::HEADER.trim_end()) }
    }

    fn flows(&mut self, out: &mut impl Write, flows: &[Value]) -> io::Result<()> {
        for flow in flows {
            if self.json {
                let comma = if self.shown > 0 { "," } else { "" };
                write!(out, "{comma}\n{flow}")?;
            } else {
                writeln!(out, "{}", text::lines(flow))?;
            }
            self.shown += 1;
        }
        out.flush()
    }

    fn end(&self, out: &mut impl Write, seen: u64) -> io::Result<()> {
        if self.json {
            writeln!(out, "],\n\"shown\": {}, \"seen\": {seen}}}", self.shown)?;
        }
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: FlowsArgs,
    }

    #[test]
    fn arguments_cross_the_socket() {
        let words = ["flows", "--state", "estab", "--peer", "10.0.0.0/8:80", "--sort", "retransmits"];
        let cli = Cli::try_parse_from(words).expect("good");
        assert_eq!(Value::from(cli.args.args()), json!({"state": "estab", "peer": "10.0.0.0/8:80"}));
        assert_eq!(cli.args.sort, Some("retransmitted_segments"));
        let refused = Cli::try_parse_from(["flows", "--sort", "age"]).expect_err("refused").to_string();
        assert!(refused.contains("choose from srtt, cwnd"), "{refused}");
    }

    #[test]
    fn the_greatest_first() {
        let mut all = vec![json!({"n": 1, "x": 3}), json!({"n": 2}), json!({"n": 3, "x": 9})];
        greatest(&mut all, "x", 2);
        assert_eq!(all, [json!({"n": 3, "x": 9}), json!({"n": 1, "x": 3})]);
    }

    #[test]
    fn what_is_printed_as_it_comes_is_one_json_object() {
        let mut p = Printer { json: true, shown: 0 };
        let mut out = Vec::new();
        p.begin(&mut out).expect("memory");
        p.flows(&mut out, &[json!({"a": 1}), json!({"a": 2})]).expect("memory");
        p.flows(&mut out, &[json!({"a": 3})]).expect("memory");
        p.end(&mut out, 7).expect("memory");
        let all: Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(all, json!({"flows": [{"a": 1}, {"a": 2}, {"a": 3}], "shown": 3, "seen": 7}));
    }
}
