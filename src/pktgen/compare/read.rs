//! Reports, as they lie in files: JSON of `pktgen` and `pktgen http`, and percentile distributions of HdrHistogram's.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::latencies::Latencies;

/// Of one report, what is compared.
#[derive(Clone, Debug)]
pub struct Run {
    /// What it is called in tables and pictures.
    pub name: String,
    /// Where it was read.
    pub file: PathBuf,
    /// What came back in a second, and what that is; some reports do not say.
    pub throughput: Option<(f64, &'static str)>,
    /// Answers that did not come or were wrong, where the report says.
    pub failed: Option<u64>,
    /// The latencies.
    pub latencies: Latencies,
}

/// What the numbers in a percentile distribution are, in microseconds: the format itself does not say.
pub type MicrosecondsEach = f64;

/// Reads `FILE`, or `NAME=FILE`.
///
/// # Errors
/// One sentence that names the file, with the mend.
pub fn read(argument: &str, unit: MicrosecondsEach) -> Result<Run, String> {
    let (name, file) = match argument.split_once('=') {
        Some((name, file)) if !name.is_empty() && !Path::new(argument).exists() => {
            (name.to_owned(), Path::new(file))
        }
        _ => {
            let file = Path::new(argument);
            (file.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned()), file)
        }
    };
    let text = std::fs::read(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    let text = String::from_utf8_lossy(&text);
    let what = parse(&text, unit).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(Run {
        name,
        file: file.to_owned(),
        throughput: what.throughput,
        failed: what.failed,
        latencies: what.latencies,
    })
}

/// What stands in a report.
#[derive(Debug)]
struct Parsed {
    throughput: Option<(f64, &'static str)>,
    failed: Option<u64>,
    latencies: Latencies,
}

fn parse(text: &str, unit: MicrosecondsEach) -> Result<Parsed, String> {
    if text.trim_start().starts_with('{') {
        let v: Value = serde_json::from_str(text)
            .map_err(|e| format!("not a whole JSON object ({e}); was the run ended before its report?"))?;
        return if v.get("streams").is_some() { frames(&v) } else { requests(&v) };
    }
    hgrm(text, unit)
}

/// Of `pktgen`'s own JSON: all probes together.
fn frames(v: &Value) -> Result<Parsed, String> {
    let (mut buckets, mut back, mut lost) = (Vec::new(), 0, 0);
    let probes = v["streams"].as_array().into_iter().flatten().filter_map(|s| s.get("probes"));
    let mut any = false;
    for p in probes {
        any = true;
        buckets.extend(histogram(p)?);
        back += p["back"].as_u64().unwrap_or(0);
        lost += p["lost"].as_u64().unwrap_or(0);
    }
    if !any {
        return Err("no stream of it has probes; add the word probe to a stream, and run again".to_owned());
    }
    let per_second = v["seconds"].as_f64().filter(|s| *s > 0.0).map(|s| back as f64 / s);
    let latencies = Latencies::new(buckets).ok_or("no probe of it came back, so there is no latency")?;
    Ok(Parsed { throughput: per_second.map(|n| (n, "probes back/s")), failed: Some(lost), latencies })
}

/// Of `pktgen http`'s JSON, or whatever says the same.
fn requests(v: &Value) -> Result<Parsed, String> {
    let buckets = histogram(v)?;
    let per_second = match (v["responses"].as_f64(), v["seconds"].as_f64().filter(|s| *s > 0.0)) {
        (Some(n), Some(s)) => Some((n / s, "responses/s")),
        _ => None,
    };
    let failed = match &v["errors"] {
        Value::Object(by_kind) => Some(by_kind.values().filter_map(Value::as_u64).sum()),
        n => n.as_u64(),
    };
    let latencies = Latencies::new(buckets).ok_or("no answer came, so there is no latency")?;
    Ok(Parsed { throughput: per_second, failed, latencies })
}

fn histogram(v: &Value) -> Result<Vec<(f64, u64)>, String> {
    let all = v
        .get("histogram_us")
        .and_then(Value::as_array)
        .ok_or("no \"histogram_us\" in it; write it with millrace pktgen … --json, of this version")?;
    all.iter()
        .map(|b| {
            let value = b.get(0).and_then(Value::as_f64).filter(|v| v.is_finite() && *v >= 0.0);
            value.zip(b.get(1).and_then(Value::as_u64)).ok_or_else(|| {
                format!("{b} is no bucket of \"histogram_us\"; each is [microseconds, samples]")
            })
        })
        .collect()
}

/// A percentile distribution: lines of value, percentile (0 to 1), samples up to there, 1/(1-percentile). It is known
/// as finely as it has lines. What stands around it is wrk2's output: milliseconds, and the throughput.
fn hgrm(text: &str, unit: MicrosecondsEach) -> Result<Parsed, String> {
    let mut lines = text.lines().enumerate();
    let is_head = |l: &str| {
        let words: Vec<&str> = l.split_whitespace().collect();
        words.len() >= 3 && words[0] == "Value" && words[1].starts_with("Percentile")
    };
    if !lines.by_ref().any(|(_, l)| is_head(l)) {
        return Err(
            "neither JSON nor a percentile distribution of HdrHistogram's; compare what pktgen … --json or \
             --hdr FILE has written"
                .to_owned(),
        );
    }
    let unit = if text.contains("Detailed Percentile spectrum") { 1000.0 } else { unit };
    let (mut buckets, mut before) = (Vec::new(), (0.0, 0u64));
    for (n, line) in lines.filter(|(_, l)| !l.trim().is_empty()) {
        if line.starts_with('#') || line.starts_with("---") {
            break;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let wrong = || format!("line {}: \"{}\" is no value, percentile and count", n + 1, line.trim());
        let [value, percentile, count, ..] = words[..] else { return Err(wrong()) };
        let value: f64 = value.parse().ok().filter(|v: &f64| v.is_finite() && *v >= 0.0).ok_or_else(wrong)?;
        percentile.parse::<f64>().map_err(|_| wrong())?;
        let count: u64 = count.parse().map_err(|_| wrong())?;
        if count < before.1 || value < before.0 {
            return Err(format!("line {}: values and counts must rise; they fall", n + 1));
        }
        buckets.push((value * unit, count - before.1));
        before = (value, count);
    }
    let latencies = Latencies::new(buckets).ok_or("its distribution is empty: nothing was measured")?;
    let number = |key: &str| {
        text.lines().find_map(|l| l.trim().strip_prefix(key)?.split_whitespace().next()?.parse().ok())
    };
    Ok(Parsed {
        throughput: number("Requests/sec:").map(|n: f64| (n, "responses/s")),
        failed: None,
        latencies,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_probes_of_a_run_are_one_distribution() {
        let p = parse(
            r#"{"seconds": 2.0, "streams": [{"frames": 4}, {"probes": {"back": 3, "lost": 1, "histogram_us": [[10.5, 2], [20, 1]]}},
                {"probes": {"back": 1, "lost": 0, "histogram_us": [[10.5, 1]]}}]}"#,
            1.0,
        )
        .expect("good");
        assert_eq!(p.latencies.steps(), [(10.5, 3), (20.0, 4)]);
        assert_eq!((p.throughput, p.failed), (Some((2.0, "probes back/s")), Some(1)));
    }

    #[test]
    fn an_http_run_says_what_came_and_what_did_not() {
        let p = parse(r#"{"seconds": 0.5, "responses": 100, "errors": 3, "histogram_us": [[1, 100]]}"#, 1.0)
            .expect("good");
        assert_eq!((p.throughput, p.failed), (Some((200.0, "responses/s")), Some(3)));
        let p =
            parse(r#"{"errors": {"timeouts": 1, "resets": 2, "note": "x"}, "histogram_us": [[1, 1]]}"#, 1.0)
                .expect("good");
        assert_eq!((p.throughput, p.failed), (None, Some(3)));
    }

    const SPECTRUM: &str = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n\
        \x20      1.000 0.000000000000          1           1.00\n\
        \x20      2.000 0.500000000000          5           2.00\n\
        \x20      2.000 0.900000000000          9          10.00\n\
        \x20      8.500 1.000000000000         10          inf\n\
        #[Mean    =        2.550, StdDeviation   =        2.000]\n";

    #[test]
    fn percentile_distributions_are_read_in_their_unit() {
        let p = parse(SPECTRUM, 1.0).expect("good");
        assert_eq!(p.latencies.steps(), [(1.0, 1), (2.0, 9), (8.5, 10)]);
        assert_eq!(p.throughput, None);
        assert_eq!(parse(SPECTRUM, 1000.0).expect("good").latencies.max(), 8500.0);
        // wrk2 says it in its own words, and in milliseconds.
        let wrk2 = format!(
            "Running 30s test\n  Detailed Percentile spectrum:\n{SPECTRUM}----------\n  10 requests in 5s\nRequests/sec:   2.00\n"
        );
        let p = parse(&wrk2, 1.0).expect("good");
        assert_eq!((p.latencies.max(), p.throughput), (8500.0, Some((2.0, "responses/s"))));
    }

    #[test]
    fn our_own_distribution_is_read_back() {
        let mut h = dataplane::counters::Histogram::default();
        for v in 1..=5000u64 {
            h.record(v * 1000);
        }
        let file = std::env::temp_dir().join(format!("millrace-compare-{}.hgrm", std::process::id()));
        crate::pktgen::report::write_hdr(&file, &h).expect("written");
        let run = read(&format!("ours={}", file.display()), 1.0);
        std::fs::remove_file(&file).expect("was there");
        let run = run.expect("good");
        assert_eq!((run.name.as_str(), run.latencies.count()), ("ours", 5000));
        for q in [0.5, 0.9, 0.99, 1.0] {
            let (told, was) = (run.latencies.quantile(q), h.quantile(q) as f64 / 1e3);
            assert!((told / was - 1.0).abs() < 0.04, "{q}: {told} {was}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_mend() {
        for (text, says) in [
            ("", "neither JSON nor"),
            ("Running 10s test @ http://x\n", "--hdr FILE"),
            ("{\"seconds\": 1", "ended before its report"),
            ("{\"seconds\": 1}", "no \"histogram_us\""),
            (r#"{"histogram_us": []}"#, "no answer came"),
            (r#"{"histogram_us": [[1]]}"#, "is no bucket"),
            (r#"{"histogram_us": [[-1, 2]]}"#, "is no bucket"),
            (r#"{"histogram_us": [[1, 2.5]]}"#, "is no bucket"),
            (r#"{"streams": [{"frames": 1}]}"#, "add the word probe"),
            (r#"{"streams": [{"probes": {"back": 0}}]}"#, "no \"histogram_us\""),
            (r#"{"streams": [{"probes": {"back": 0, "histogram_us": []}}]}"#, "no probe of it came back"),
            ("Value Percentile TotalCount\n1.0 0.5\n", "line 2"),
            ("Value Percentile TotalCount\n1.0 0.5 x\n", "line 2"),
            ("Value Percentile TotalCount\n1.0 0.5 7\n2.0 0.7 6\n", "line 3: values and counts must rise"),
            ("Value Percentile TotalCount\n2.0 0.5 7\n1.0 0.7 9\n", "line 3: values and counts must rise"),
            ("Value Percentile TotalCount\n#[Max = 0]\n", "nothing was measured"),
        ] {
            let e = parse(text, 1.0).map(|_| ()).expect_err(text);
            assert!(e.contains(says), "{text:?}: {e}");
        }
        let e = read("/no/such/report.json", 1.0).map(|_| ()).expect_err("no file");
        assert!(e.contains("cannot read /no/such/report.json"), "{e}");
    }
}
