//! The command line's end of the control socket.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::{Answer, Request};
use crate::exit;
use crate::rundir::RunDir;

/// A long answer: a purge that lists what it did.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// How long a node may take over a request.
pub(super) const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug)]
pub enum CallError {
    /// Nobody listens, or whoever does has ended.
    Unreachable(io::Error),
    /// It took too long.
    Late,
    /// What came is no answer.
    Nonsense,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Unreachable(e) => {
                write!(f, "the node's control socket does not answer ({e}); see whether the node is ending")
            }
            CallError::Late => f.write_str("the node took too long to answer; see its log"),
            CallError::Nonsense => {
                f.write_str("the node's answer makes no sense; use the millrace of its own version")
            }
        }
    }
}

/// Sends a request to the node at `socket` and waits for its answer.
///
/// # Errors
/// When there is none.
pub fn call(socket: &Path, request: &Request, patience: Duration) -> Result<Answer, CallError> {
    let failed = |e: io::Error| match e.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => CallError::Late,
        _ => CallError::Unreachable(e),
    };
    let mut line = serde_json::to_vec(request).map_err(|_| CallError::Nonsense)?;
    line.push(b'\n');
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.set_read_timeout(Some(patience)).map_err(failed)?;
    stream.set_write_timeout(Some(patience)).map_err(failed)?;
    stream.write_all(&line).map_err(failed)?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_until(b'\n', &mut answer).map_err(failed)?;
    if answer.is_empty() {
        return Err(CallError::Unreachable(ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_slice(&answer).map_err(|_| CallError::Nonsense)
}

/// A verb of the command line that a node answers: finds the node, asks it, prints what it says.
pub fn verb(node: Option<&str>, request: &Request, json: bool) -> ExitCode {
    let found = match RunDir::find(node) {
        Ok(f) => f,
        Err(e) => {
            eprintln!("millrace: {e}");
            return e.exit_code();
        }
    };
    match call(&found.control_socket(), request, ANSWER_PATIENCE) {
        Err(e) => {
            eprintln!("millrace: {e}");
            exit::unreachable()
        }
        Ok(answer) => {
            // A closed pipe is no reason to panic.
            if json {
                let _ = write!(io::stdout(), "{}", answer.line());
            } else if answer.ok {
                let _ = writeln!(io::stdout(), "{}", answer.text);
            } else {
                let _ = writeln!(io::stderr(), "{}", answer.text);
            }
            ExitCode::from(answer.exit)
        }
    }
}
