//! The control socket: how verbs like `millrace reload` reach a running node.
//!
//! ```text
//!  millrace reload ──► control.sock in the run directory ──► control thread ──► ControlHandler ──► Desk ──► cores
//!                  ◄── one line of JSON ◄──────────────────────────────────────────┘
//! ```
//!
//! One request per connection, one line of JSON each way: `{"verb": "reload", …}`, answered by `{"ok": …, "exit": …,
//! "text": …, …}`. The socket is for its owner only (mode 0600 in a folder of mode 0700). Bounds: [`REQUEST_BYTES_MAX`],
//! and [`PATIENCE`] for a request to come and its answer to be read; requests are handled one after the other. The
//! thread never touches a data core but through what its handlers use.

mod client;
pub mod flows;
pub mod purge;
mod server;
pub mod totals;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use client::{CallError, call, verb};
pub use server::Control;

/// The longest request.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;
/// How long a client may take to send its request, and to read the answer.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The verb, as on the command line.
    pub verb: String,
    /// Everything else that the request says.
    #[serde(flatten)]
    pub args: Map<String, Value>,
}

/// What it is told. The exit codes are those of the command line: 0 done, 1 what was asked about is bad, 2 usage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it was done.
    pub ok: bool,
    /// The exit code of the verb.
    pub exit: u8,
    /// For a person: what was done; or what is wrong and the mend, a line for each error.
    pub text: String,
    /// For scripts.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// Whoever answers some verbs. Called on the control thread, one request at a time; it may take its time, while
/// others wait.
pub trait ControlHandler: Send {
    /// The verbs that it answers.
    fn verbs(&self) -> &'static [&'static str];

    /// Answers a request with one of them.
    fn handle(&mut self, request: &Request) -> Answer;
}

impl Request {
    /// A request without arguments.
    pub fn new(verb: &str) -> Request {
        Request { verb: verb.to_owned(), args: Map::new() }
    }
}

impl Answer {
    /// It was done.
    pub fn done(text: impl Into<String>) -> Answer {
        Answer { ok: true, exit: 0, text: text.into(), fields: Map::new() }
    }

    /// What was asked about is bad.
    pub fn bad(text: impl Into<String>) -> Answer {
        Answer { ok: false, exit: 1, text: text.into(), fields: Map::new() }
    }

    /// The request makes no sense.
    pub fn usage(text: impl Into<String>) -> Answer {
        Answer { ok: false, exit: 2, text: text.into(), fields: Map::new() }
    }

    /// The same with a field for scripts.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Answer {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    fn line(&self) -> String {
        let mut line = serde_json::to_string(self)
            .unwrap_or_else(|e| json!({"ok": false, "exit": 1, "text": e.to_string()}).to_string());
        line.push('\n');
        line
    }
}
