//! The node's end of the control socket.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Answer, ControlHandler, PATIENCE, REQUEST_BYTES_MAX, Request};

/// After an error of accept() that is not a client's (too many open files).
const REST: Duration = Duration::from_millis(100);

type Handlers = Arc<Mutex<Vec<Box<dyn ControlHandler>>>>;

/// A control socket and the thread behind it. Dropping it ends both; a request that is being handled is finished.
pub struct Control {
    path: PathBuf,
    handlers: Handlers,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Listens at `path`, where nothing may be. No verb is known yet.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn start(path: &Path) -> io::Result<Control> {
        // Nobody else gets into the folder, so that there is no moment at which others could connect.
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        let handlers = Handlers::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (ours, flag) = (Arc::clone(&handlers), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("millrace-control".to_owned())
            .spawn(move || serve(&listener, &ours, &flag))?;
        Ok(Control { path: path.to_owned(), handlers, stop, thread: Some(thread) })
    }

    /// From now on the verbs of `handler` are known.
    pub fn add(&self, handler: Box<dyn ControlHandler>) {
        self.handlers.lock().unwrap_or_else(PoisonError::into_inner).push(handler);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes accept(). If the socket is gone already the thread cannot be woken: it ends with the process.
        let woken = UnixStream::connect(&self.path).is_ok();
        if let (Some(thread), true) = (self.thread.take(), woken) {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

fn serve(listener: &UnixListener, handlers: &Handlers, stop: &AtomicBool) {
    for stream in listener.incoming() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        match stream {
            // Whatever goes wrong with one client is that client's to see.
            Ok(stream) => drop(answer(stream, handlers)),
            Err(_) => std::thread::sleep(REST),
        }
    }
}

fn answer(mut stream: UnixStream, handlers: &Handlers) -> io::Result<()> {
    let answer = match read_line(&mut stream)? {
        None => Answer::usage(format!("the request is longer than {REQUEST_BYTES_MAX} bytes; ask for less")),
        Some(line) => match serde_json::from_slice::<Request>(&line) {
            Ok(request) => dispatch(&request, handlers),
            Err(e) => Answer::usage(format!("not a request: {e}; send {{\"verb\": …}} and a line feed")),
        },
    };
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(answer.line().as_bytes())
}

/// The request's line, `None` when it is too long. In time, or not at all: a client that stalls keeps others waiting.
fn read_line(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let until = Instant::now() + PATIENCE;
    let (mut line, mut buf) = (Vec::new(), [0; 4096]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let n = stream.read(&mut buf)?;
        let end = buf[..n].iter().position(|b| *b == b'\n');
        line.extend_from_slice(&buf[..end.unwrap_or(n)]);
        if line.len() > REQUEST_BYTES_MAX {
            return Ok(None);
        }
        if end.is_some() {
            return Ok(Some(line));
        }
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}

fn dispatch(request: &Request, handlers: &Handlers) -> Answer {
    let mut all = handlers.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(h) = all.iter_mut().find(|h| h.verbs().contains(&request.verb.as_str())) {
        return h.handle(request);
    }
    let known: Vec<&str> = all.iter().flat_map(|h| h.verbs()).copied().collect();
    Answer::usage(format!("this node has no verb \"{}\"; it has {}", request.verb, known.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;

    use super::*;
    use crate::control::{CallError, call};

    struct Echo;

    impl ControlHandler for Echo {
        fn verbs(&self) -> &'static [&'static str] {
            &["echo", "refuse"]
        }
        fn handle(&mut self, request: &Request) -> Answer {
            match request.verb.as_str() {
                "echo" => Answer::done("here").with("back", request.args["word"].clone()),
                _ => Answer::bad("no; ask for something else"),
            }
        }
    }

    fn start(name: &str) -> (PathBuf, Control) {
        let path = std::env::temp_dir().join(format!("mr-control-{name}-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let control = Control::start(&path).unwrap();
        control.add(Box::new(Echo));
        (path, control)
    }

    fn raw(path: &Path, bytes: &[u8]) -> String {
        let mut s = UnixStream::connect(path).unwrap();
        s.write_all(bytes).unwrap();
        let mut line = String::new();
        let _ = io::BufReader::new(s).read_line(&mut line);
        line
    }

    #[test]
    fn requests_are_answered_by_their_handler() {
        let (path, control) = start("answers");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut request = Request::new("echo");
        request.args.insert("word".into(), "ho".into());
        let answer = call(&path, &request, PATIENCE).unwrap();
        assert_eq!((answer.ok, answer.exit, answer.fields["back"].as_str()), (true, 0, Some("ho")));
        let answer = call(&path, &Request::new("refuse"), PATIENCE).unwrap();
        assert_eq!((answer.ok, answer.exit), (false, 1));
        let answer = call(&path, &Request::new("dance"), PATIENCE).unwrap();
        assert_eq!((answer.exit, answer.text.contains("echo, refuse")), (2, true));
        drop(control);
        assert!(matches!(call(&path, &request, PATIENCE), Err(CallError::Unreachable(_))));
        assert!(!path.exists());
    }

    #[test]
    fn nonsense_is_told_so_and_a_stalled_client_is_left() {
        let (path, _control) = start("nonsense");
        assert!(raw(&path, b"hello\n").contains("not a request"));
        assert!(raw(&path, b"{\"verb\":7}\n").contains("\"exit\":2"));
        assert!(raw(&path, &[b'x'; REQUEST_BYTES_MAX + 5000]).contains("longer than"));
        // Half a request and silence: others are served after a while.
        let mut stalled = UnixStream::connect(&path).unwrap();
        stalled.write_all(b"{\"verb\":").unwrap();
        assert!(call(&path, &Request::new("refuse"), PATIENCE * 10).is_ok());
        let mut rest = Vec::new();
        assert_eq!(stalled.read_to_end(&mut rest).unwrap_or(0), 0);
    }
}
