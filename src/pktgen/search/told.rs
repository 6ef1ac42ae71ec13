//! The report of a search: its method, every trial, the answers.

use serde_json::{Value, json};

use super::NdrArgs;
use super::method::Answer;
use crate::pktgen::rate::{Rate, human};

const METHOD: &str = "RFC 2544, section 26.1 (throughput), by bisection";

/// What is searched for.
pub struct Goal {
    /// Its name.
    pub name: &'static str,
    /// The share that may be lost.
    pub loss: f64,
}

/// One trial.
pub struct Row {
    /// The rate that was asked for.
    pub asked: Rate,
    /// The rate that it was, in the unit of the search.
    pub rate: f64,
    /// The same in frames.
    pub frames_per_second: f64,
    /// The same in bits, FCS included.
    pub bits_per_second: f64,
    /// From the first frame to the last.
    pub seconds: f64,
    /// Frames that the port took.
    pub sent: u64,
    /// Frames that came back.
    pub back: u64,
}

impl Row {
    fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.back)
    }

    /// The share that was lost.
    pub fn loss(&self) -> f64 {
        self.lost() as f64 / (self.sent as f64).max(1.0)
    }
}

/// All that is told.
pub struct Told<'a> {
    /// The command line.
    pub args: &'a NdrArgs,
    /// The ports as they run.
    pub port: String,
    /// The goals.
    pub goals: Vec<Goal>,
    /// The trials.
    pub rows: Vec<Row>,
}

/// Percent with as many digits as are needed.
fn percent(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "0" && share > 0.0 { "< 0.0001 %".to_owned() } else { format!("{text} %") }
}

impl Told<'_> {
    fn seconds(ns: u64) -> f64 {
        ns as f64 / 1e9
    }

    /// Before the first trial.
    pub fn head(&self) -> String {
        format!(
            "method     {METHOD}; {} s of sending each, {} s of waiting; resolution {}\n\
             port       {}; back: {}\n\n{:>5}  {:>14}  {:>14}  {:>14}  {:>11}  {:>11}  {:>8}\n",
            Told::seconds(self.args.trial),
            Told::seconds(self.args.linger),
            percent(self.args.resolution),
            self.port,
            self.args.back,
            "trial",
            "asked",
            "frames/s",
            "bit/s",
            "sent",
            "lost",
            "loss",
        )
    }

    /// A trial.
    pub fn row(&self, n: usize, r: &Row) -> String {
        format!(
            "{:>5}  {:>14}  {:>14}  {:>14}  {:>11}  {:>11}  {:>8}\n",
            n + 1,
            r.asked.to_string(),
            human(r.frames_per_second),
            human(r.bits_per_second),
            r.sent,
            r.lost(),
            percent(r.loss()),
        )
    }

    /// After the last one.
    pub fn end(&self, answers: &[Answer]) -> String {
        let mut t = String::from("\n");
        for (goal, answer) in self.goals.iter().zip(answers) {
            let rates = |n: usize| {
                let r = &self.rows[n];
                format!("{}pps, {}bps", human(r.frames_per_second), human(r.bits_per_second))
            };
            let said = match *answer {
                Answer::Found { passed, failed } => {
                    format!("{} (trial {}; trial {} failed)", rates(passed), passed + 1, failed + 1)
                }
                Answer::AtLeast { passed } => {
                    format!("at least {}: the sender does no more, the device may", rates(passed))
                }
                Answer::Nowhere { failed } => {
                    format!("none: even {} loses more (trial {})", rates(failed), failed + 1)
                }
                Answer::Open { passed, failed } => {
                    let bound = |n: Option<usize>, word: &str| n.map(|n| format!("{word} {}", rates(n)));
                    let known: Vec<String> =
                        [bound(passed, "from"), bound(failed, "below")].into_iter().flatten().collect();
                    format!(
                        "ended early; {}",
                        if known.is_empty() { "nothing is known".to_owned() } else { known.join(" ") }
                    )
                }
            };
            t.push_str(&format!("{:<10} {said}; up to {} lost\n", goal.name, percent(goal.loss)));
        }
        t
    }

    /// For a program.
    pub fn json(&self, answers: &[Answer]) -> Value {
        let unit = match self.args.max {
            Some(Rate::Bits(_)) => "bps",
            Some(Rate::Percent(_)) => "%",
            _ => "pps",
        };
        let trials: Vec<Value> = self
            .rows
            .iter()
            .map(|r| {
                json!({
                    "asked": r.asked.to_string(),
                    "rate": r.rate,
                    "pps": r.frames_per_second,
                    "bps": r.bits_per_second,
                    "seconds": r.seconds,
                    "sent": r.sent,
                    "back": r.back,
                    "lost": r.lost(),
                    "loss": r.loss(),
                })
            })
            .collect();
        let answers: Vec<Value> = self
            .goals
            .iter()
            .zip(answers)
            .map(|(goal, answer)| {
                let (outcome, passed, failed) = match *answer {
                    Answer::Found { passed, failed } => ("found", Some(passed), Some(failed)),
                    Answer::AtLeast { passed } => ("at_least", Some(passed), None),
                    Answer::Nowhere { failed } => ("none", None, Some(failed)),
                    Answer::Open { passed, failed } => ("ended_early", passed, failed),
                };
                let of = |n: Option<usize>, what: fn(&Row) -> f64| n.map(|n| what(&self.rows[n]));
                json!({
                    "name": goal.name,
                    "loss": goal.loss,
                    "outcome": outcome,
                    "rate": of(passed, |r| r.rate),
                    "pps": of(passed, |r| r.frames_per_second),
                    "bps": of(passed, |r| r.bits_per_second),
                    "failed_at": of(failed, |r| r.rate),
                    "trial": passed.map(|n| n + 1),
                })
            })
            .collect();
        json!({
            "method": METHOD,
            "port": self.port,
            "streams": self.args.streams,
            "back": self.args.back,
            "trial_seconds": Told::seconds(self.args.trial),
            "linger_seconds": Told::seconds(self.args.linger),
            "resolution": self.args.resolution,
            "unit": unit,
            "trials": trials,
            "answers": answers,
        })
    }
}
