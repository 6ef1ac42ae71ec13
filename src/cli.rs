//! The command line: verbs, their options, and the help that teaches them.
//!
//! Only verbs that work are here; what a later version will have is absent and exits 2 like any unknown word.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::config::{self, Config, HostPattern, Loaded, Machine, Origin};
use crate::control::flows::FlowsArgs;
use crate::control::purge::PurgeArgs;
use crate::control::{self, Request};
use crate::doctor::Kind;
use crate::pktgen::{self, PktgenArgs};
use crate::{cert, doctor, exit, node, stats};

/// The open kernel-bypass edge node: an HTTP proxy on its own TCP stack.
#[derive(Debug, Parser)]
#[command(
    name = "millrace",
    version,
    after_help = "Start here:\n  \
        millrace demo                       then open http://127.0.0.1:8080: no root, no NIC, no config\n  \
        millrace check edge.toml            what is wrong with a config, all of it at once\n  \
        millrace run --config edge.toml     the node\n  \
        millrace stats --watch              what it does, each second\n  \
        millrace flows                      its connections\n  \
        millrace reload                     takes a changed config, whole or not at all\n\n\
        Exit codes: 0 done, 1 what was asked about is bad, 2 usage, 3 the node can't be reached."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Try it: a node with a built-in origin, without root, NIC or config.
    Demo(DemoArgs),
    /// Run the node of a config file. SIGTERM drains and ends it, SIGHUP reloads the file.
    Run(RunArgs),
    /// Check a config file: every error with its line and the mend.
    Check(CheckArgs),
    /// Show the counters of a running node.
    Stats(StatsArgs),
    /// Show the connections of a running node, as ss -ti does.
    Flows(Box<FlowsArgs>),
    /// Make a running node take its config file anew.
    Reload(ReloadArgs),
    /// Take stored responses out of a running node's cache, or mark them stale.
    Purge(PurgeArgs),
    /// Make a running node finish what is under way, and end.
    Drain(DrainArgs),
    /// Make a certificate, for trying out https.
    Cert(CertArgs),
    /// Look what this host can do for each kind of port, and what mends what is missing.
    Doctor(DoctorArgs),
    /// Send made-up frames at a rate, and count what comes back.
    Pktgen(Box<PktgenArgs>),
    /// Print the version.
    Version(VersionArgs),
}

/// `millrace demo`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    millrace demo                                     a built-in origin; open http://127.0.0.1:8080\n  \
    millrace demo --origin http://127.0.0.1:3000      in front of a server of yours\n  \
    millrace demo --https                             also https://127.0.0.1:8443, by a certificate made at the start\n  \
    millrace demo --listen 127.0.0.1:0                any free port; the first line says which")]
pub struct DemoArgs {
    /// Where browsers connect.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Serve https too, on this port of the same address, by a self-signed certificate.
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true, default_missing_value = "8443")]
    pub https: Option<u16>,
    /// Your server instead of the built-in origin: http://ADDRESS:PORT.
    #[arg(long, value_name = "URL", value_parser = origin_url)]
    pub origin: Option<Origin>,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    millrace run --config /etc/millrace/edge.toml\n  \
    millrace check edge.toml && millrace run --config edge.toml\n\n\
    Every key of the config is described in docs/config.md.")]
struct RunArgs {
    /// The config file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    millrace check edge.toml            FILE:LINE: cause; mend, a line for each error\n  \
    millrace check edge.toml --json     {\"file\", \"ok\", \"errors\": [{\"line\", \"column\", \"key\", \"cause\", \"mend\"}]}\n\n\
    Exit codes: 0 good, 1 bad. Every key is described in docs/config.md.")]
struct CheckArgs {
    /// The config file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Answer as one JSON object, good or bad.
    #[arg(long)]
    json: bool,
}

/// `millrace stats`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    millrace stats                   all sections of the one node that runs here, once\n  \
    millrace stats --watch           the screen that changes each second\n  \
    millrace stats tcp               what connections have done, by listener and congestion control\n  \
    millrace stats --node edge-1 --json\n\n\
    Exit codes: 3 no such node is running, 2 several are and --node was not given.")]
pub struct StatsArgs {
    /// Only this section.
    #[arg(value_name = "SECTION")]
    pub section: Option<String>,
    /// Show it again each second, with rates.
    #[arg(long)]
    pub watch: bool,
    /// Answer as JSON, with stable fields.
    #[arg(long)]
    pub json: bool,
    /// Which node: its name, or the path of its run directory.
    #[arg(long, value_name = "NAME|PATH")]
    pub node: Option<String>,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    millrace check edge.toml && millrace reload\n  \
    millrace reload --node edge-1 --json    {\"ok\", \"exit\", \"text\", \"changed\", \"errors\", \"fixed\"}\n\n\
    The file is taken whole or not at all: with an error in it, or a change of cores, ports, listeners or memory, the \
    node goes on as before and says why. Requests under way end under the config that they began with. SIGHUP does \
    the same, and logs what came of it.\n\n\
    Exit codes: 0 in force, 1 refused, 2 several nodes run and --node was not given, 3 no such node.")]
struct ReloadArgs {
    #[command(flatten)]
    at: NodeArgs,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    millrace drain                      as SIGTERM: no new connections; idle ones are closed, busy ones finished\n  \
    millrace drain --node edge-1 --json {\"ok\", \"exit\", \"text\", \"connections_open\", \"limit_seconds\", \"already\"}\n\n\
    Comes back at once. The node ends when nothing is left to finish, or after `drain` of [node].\n\n\
    Exit codes: 0 it drains, 2 several nodes run and --node was not given, 3 no such node.")]
struct DrainArgs {
    #[command(flatten)]
    at: NodeArgs,
}

/// Which node, and how it is to answer.
#[derive(Debug, Clone, Args)]
struct NodeArgs {
    /// Which node: its name, or the path of its run directory.
    #[arg(long, value_name = "NAME|PATH")]
    node: Option<String>,
    /// Answer as one JSON object.
    #[arg(long)]
    json: bool,
}

impl NodeArgs {
    fn ask(&self, verb: &str) -> ExitCode {
        control::verb(self.node.as_deref(), &Request::new(verb), self.json)
    }
}

/// `millrace doctor`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    millrace doctor                     all that there is to say about this host, a line for each check\n  \
    millrace doctor --port dpdk         only what matters to a NIC driven by DPDK; exit 1 if none can be\n  \
    millrace doctor --json              {\"ok\", \"ports\", \"findings\": [{\"check\", \"level\", \"found\", \"mend\"}], \"nics\", …}\n\n\
    It reads, and changes nothing. Run it as the user who will run the node: what may be opened is a matter of who \
    asks. The mends are commands for root.\n\n\
    Exit codes: 0 nothing must be mended, 1 something must: with --port what keeps that kind from running, without it \
    what keeps every kind from running. The checks are described in docs/doctor.md.")]
pub struct DoctorArgs {
    /// Only what matters to ports of this kind: dpdk (on a NIC), tap, host.
    #[arg(long, value_name = "KIND", value_parser = port_kind)]
    pub port: Option<Kind>,
    /// Answer as one JSON object, with stable fields.
    #[arg(long)]
    pub json: bool,
}

/// `millrace cert`
#[derive(Debug, Clone, Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Example:\n  millrace cert self-signed localhost 127.0.0.1 --out /tmp/certs"
)]
struct CertArgs {
    #[command(subcommand)]
    what: CertVerb,
}

#[derive(Debug, Clone, Subcommand)]
enum CertVerb {
    /// Make a certificate that is signed by its own key, and the key.
    SelfSigned(SelfSignedArgs),
}

/// `millrace cert self-signed`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  \
    millrace cert self-signed localhost 127.0.0.1 ::1            cert.pem and key.pem, here\n  \
    millrace cert self-signed example.com '*.example.com' --out /etc/millrace/tls\n  \
    millrace cert self-signed example.com --rsa --days 30        for clients that know no ECDSA\n  \
    millrace cert self-signed example.com --json                 {\"ok\", \"certificate\", \"key\", \"names\", \"not_after\", …}\n\n\
    Nobody vouches for such a certificate: clients refuse it, or ask their user, unless they are told of it, as in\n\n  \
    curl --cacert cert.pem https://localhost:8443/\n\n\
    In the config: certificate = { chain = \"cert.pem\", key = \"key.pem\" } in a [[site]]. The key can be read by its owner \
    alone (mode 0600).\n\n\
    Exit codes: 0 written, 1 not (a file is there already and --force was not given, or it can't be written).")]
pub struct SelfSignedArgs {
    /// Whom it is for: host names, *.example.com, IP addresses.
    #[arg(value_name = "NAME", required = true, value_parser = cert::name)]
    pub names: Vec<HostPattern>,
    /// The folder of cert.pem and key.pem; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// How long it is good.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: u32,
    /// An RSA key of 2048 bits instead of ECDSA with P-256.
    #[arg(long)]
    pub rsa: bool,
    /// Replace files that are there already.
    #[arg(long)]
    pub force: bool,
    /// Answer as one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  millrace version --json     {\"name\", \"version\", \"os\", \"arch\"}")]
struct VersionArgs {
    /// Answer as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the verb of the command line.
pub fn main() -> ExitCode {
    match Cli::parse().verb {
        Verb::Demo(args) => node::demo(args),
        Verb::Run(args) => match load(&args.config) {
            Ok(loaded) => node::run(&args.config, loaded),
            Err(code) => code,
        },
        Verb::Check(args) if args.json => check_json(&args.file),
        Verb::Check(args) => match load(&args.file) {
            Ok(Loaded { config, warnings }) => {
                let mut stderr = io::stderr().lock();
                for line in warnings.lines() {
                    let _ = writeln!(stderr, "{line}");
                }
                say(&format!("{}: good; {}", args.file.display(), plan(&config)), exit::DONE)
            }
            Err(code) => code,
        },
        Verb::Stats(args) => stats::main(args),
        Verb::Flows(args) => args.run(),
        Verb::Reload(args) => args.at.ask("reload"),
        Verb::Purge(args) => args.run(),
        Verb::Drain(args) => args.at.ask("drain"),
        Verb::Cert(CertArgs { what: CertVerb::SelfSigned(args) }) => cert::self_signed(&args),
        Verb::Doctor(args) => doctor::main(&args),
        Verb::Pktgen(args) => pktgen::main(*args),
        Verb::Version(args) => version(&args),
    }
}

/// The config of a file, or the exit code once its errors are on standard error.
fn load(file: &Path) -> Result<Loaded, ExitCode> {
    config::load(file, &Machine::this()).map_err(|report| {
        let mut stderr = io::stderr().lock();
        // Lost only when standard error is closed: then nobody reads it.
        let _ = if stderr.is_terminal() {
            write!(stderr, "{}", report.with_source())
        } else {
            writeln!(stderr, "{report}")
        };
        exit::bad()
    })
}

fn check_json(file: &Path) -> ExitCode {
    match config::load(file, &Machine::this()) {
        Ok(loaded) => say(&loaded.warnings.json(), exit::DONE),
        Err(report) => say(&report.json(), exit::bad()),
    }
}

/// One line on what a node with this config would do.
fn plan(config: &Config) -> String {
    let count = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    let cores = match config.node.cores.len() {
        0 => "1 core, not pinned".to_string(),
        n => count(n, "core"),
    };
    format!(
        "node \"{}\" would run {}, {} and {} on {cores}, with {} of memory",
        config.node.name,
        count(config.ports.len(), "port"),
        count(config.listeners.len(), "listener"),
        count(config.sites.len(), "site"),
        // Computed defaults are odd numbers of bytes; nobody wants those here.
        config::units::show_size(config.node.memory_bytes >> 20 << 20),
    )
}

fn version(args: &VersionArgs) -> ExitCode {
    #[derive(Serialize)]
    struct Version {
        name: &'static str,
        version: &'static str,
        os: &'static str,
        arch: &'static str,
    }
    let version = Version {
        name: "millrace",
        version: env!("CARGO_PKG_VERSION"),
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
    };
    let line = if args.json {
        serde_json::to_string(&version).expect("strings always serialise")
    } else {
        format!("{} {} ({} {})", version.name, version.version, version.os, version.arch)
    };
    say(&line, exit::DONE)
}

/// Prints a line. A closed pipe (`| head`) is no reason to panic.
fn say(line: &str, code: ExitCode) -> ExitCode {
    let _ = writeln!(io::stdout().lock(), "{line}");
    code
}

fn origin_url(text: &str) -> Result<Origin, String> {
    config::names::origin(text).map_err(|wrong| format!("{}; {}", wrong.cause, wrong.mend))
}

fn port_kind(text: &str) -> Result<Kind, String> {
    match (Kind::ALL.into_iter().find(|k| k.name() == text), text) {
        (Some(kind), _) => Ok(kind),
        (None, "af_xdp") => Err("not yet in this version; choose from dpdk, tap, host".to_owned()),
        (None, _) => Err("choose from dpdk, tap, host".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_teaches_by_example() {
        for verb in Cli::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                help.contains(&format!("millrace {}", verb.get_name())),
                "{} has no example",
                verb.get_name()
            );
        }
    }

    #[test]
    fn demo_reads_an_origin_like_the_config_does() {
        let cli =
            Cli::try_parse_from(["millrace", "demo", "--origin", "http://localhost:3000"]).expect("good");
        let Verb::Demo(args) = cli.verb else { panic!("not demo") };
        assert_eq!(args.origin.and_then(|o| o.address()), Some(SocketAddr::from(([127, 0, 0, 1], 3000))));
        assert_eq!(args.listen, SocketAddr::from(([127, 0, 0, 1], 8080)));
        let refused = Cli::try_parse_from(["millrace", "demo", "--origin", "ftp://x"]).expect_err("refused");
        assert!(refused.to_string().contains("unknown scheme"), "{refused}");
    }
}
