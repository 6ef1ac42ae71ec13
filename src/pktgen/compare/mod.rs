//! `millrace pktgen compare`: reports held against each other.
//!
//! ```text
//!  FILE ─ read ─► Run: Latencies, throughput ─┬─ told ───► table of values and ratios, JSON
//!                                             ╰─ pictures ─► svg: distributions (two scales), quantiles of A against B
//! ```

mod latencies;
mod pictures;
mod read;
mod svg;
mod told;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use self::read::Run;
use crate::exit;

/// Runs that can be told apart in one picture.
const RUNS_MAX: usize = 8;

/// `millrace pktgen compare`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Reports are what --json of pktgen (with probes) and of pktgen http has written, and percentile \
    distributions\nof HdrHistogram's (--hdr of pktgen, what wrk2 prints).\n\n\
    Examples:\n  \
    millrace pktgen compare before.json after.json\n  \
    millrace pktgen compare before.json after.json --page 80 --svg pictures/\n  \
    millrace pktgen compare nginx=n.json haproxy=h.json ours=m.json --title \"1 KiB, cached\" --svg cached.svg\n\n\
    Exit codes: 0 compared, 1 a report cannot be read or a picture not be written, 2 usage."
)]
pub struct CompareArgs {
    /// Reports; the others are held against the first. NAME=FILE names one.
    #[arg(value_name = "REPORT", required = true, num_args = 2..=RUNS_MAX)]
    reports: Vec<String>,
    /// How many requests a page makes: it is as slow as the slowest of them.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    page: u32,
    /// Draw: into a folder (tail.svg, cdf.svg, qq.svg), or all into one file that ends with .svg.
    #[arg(long, value_name = "DIR|FILE")]
    svg: Option<PathBuf>,
    /// What stands above the pictures.
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// What the values of percentile distributions are (those of wrk2 are known): ns, us, ms, s.
    #[arg(long, value_name = "UNIT", default_value = "us", value_parser = unit)]
    unit: f64,
    /// The comparison as one JSON object.
    #[arg(long)]
    json: bool,
}

fn unit(text: &str) -> Result<f64, String> {
    match text {
        "ns" => Ok(1e-3),
        "us" | "µs" => Ok(1.0),
        "ms" => Ok(1e3),
        "s" => Ok(1e6),
        _ => Err("choose from ns, us, ms, s".to_owned()),
    }
}

/// Runs it.
pub fn main(args: &CompareArgs) -> ExitCode {
    match run(args) {
        Ok(text) => {
            // A closed pipe (`| head`) is no reason to fail.
            let _ = std::io::stdout().lock().write_all(text.as_bytes());
            exit::DONE
        }
        Err(e) => {
            eprintln!("millrace: {e}");
            exit::bad()
        }
    }
}

fn run(args: &CompareArgs) -> Result<String, String> {
    let mut runs = Vec::with_capacity(args.reports.len());
    for report in &args.reports {
        runs.push(read::read(report, args.unit)?);
    }
    tell_apart(&mut runs);
    let mut text =
        if args.json { format!("{}\n", told::json(&runs, args.page)) } else { told::text(&runs, args.page) };
    if let Some(to) = &args.svg {
        for file in draw(&runs, args.title.as_deref(), to)? {
            if !args.json {
                text.push_str(&format!("drawn: {}\n", file.display()));
            }
        }
    }
    Ok(text)
}

/// Files of one name in two folders are called by their paths.
fn tell_apart(runs: &mut [Run]) {
    for n in 0..runs.len() {
        let name = runs[n].name.clone();
        if runs.iter().enumerate().any(|(m, r)| m != n && r.name == name) {
            for r in runs.iter_mut().filter(|r| r.name == name) {
                r.name = r.file.display().to_string();
            }
        }
    }
}

fn draw(runs: &[Run], title: Option<&str>, to: &Path) -> Result<Vec<PathBuf>, String> {
    let all = [
        ("tail.svg", pictures::tail(runs, title)),
        ("cdf.svg", pictures::plain(runs, title)),
        ("qq.svg", pictures::against(runs, title)),
    ];
    let write = |file: &Path, text: String| {
        std::fs::write(file, text).map_err(|e| format!("cannot write {}: {e}", file.display()))
    };
    if to.extension().is_some_and(|e| e == "svg") {
        write(to, svg::document(&all.map(|(_, p)| p)))?;
        return Ok(vec![to.to_owned()]);
    }
    std::fs::create_dir_all(to).map_err(|e| format!("cannot make the folder {}: {e}", to.display()))?;
    let mut files = Vec::new();
    for (name, picture) in all {
        let file = to.join(name);
        write(&file, svg::document(&[picture]))?;
        files.push(file);
    }
    Ok(files)
}
