//! The access log's control thread: lines from the cores' rings into files, or to standard output.
//!
//! ```text
//!  core 0 ─► [ring] ─┐                      ┌─► file (appended to; opened anew when a reload is asked for)
//!  core 1 ─► [ring] ─┴─► millrace-log, ─────┴─► standard output
//!                        100 times a second, a write for each file that has lines; what cores say of origins goes to
//!                        the node's own log
//! ```
//!
//! A file that takes its time makes its rings fill; the cores do not wait, and count what they lose
//! (`log.dropped`).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use dataplane::lines::{LineReader, LineWriter, ring};
use l7::proxy::{NEWS_INFO, NEWS_WARN};

use crate::config::LogTarget;
use crate::log;

/// Of each core: some thousand lines, more than come between two looks.
pub const RING_BYTES: usize = 1 << 20;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// A target's lines are written when there are so many bytes of them, and after each look.
const BATCH_BYTES: usize = 256 << 10;

/// The files of all sites, by the numbers that the cores know them by. A number stays what it is.
#[derive(Default)]
pub struct Targets {
    all: Mutex<Vec<Target>>,
    /// Grows when the files have to be opened anew.
    turns: AtomicU64,
}

struct Target {
    what: LogTarget,
    /// Opened when the config was taken; the thread's from its next look on.
    opened: Option<File>,
}

impl Targets {
    /// The number of a target. A new one's file is opened.
    ///
    /// # Errors
    /// One sentence, with the mend.
    pub fn number(&self, what: &LogTarget) -> Result<u16, String> {
        let mut all = self.all();
        if let Some(n) = all.iter().position(|t| t.what == *what) {
            return Ok(n as u16);
        }
        let n = u16::try_from(all.len()).ok().filter(|n| *n < NEWS_INFO);
        let n = n.ok_or("too many access logs; restart the node")?;
        let opened = match what {
            LogTarget::Stdout => None,
            LogTarget::File(path) => {
                let cannot = |e| {
                    format!(
                        "cannot write the access log {}: {e}; change the path or its rights",
                        path.display()
                    )
                };
                Some(open(path).map_err(cannot)?)
            }
        };
        all.push(Target { what: what.clone(), opened });
        Ok(n)
    }

    /// Has all files opened anew: whoever has renamed one wants a new one.
    pub fn reopen(&self) {
        self.turns.fetch_add(1, Ordering::Release);
    }

    fn all(&self) -> MutexGuard<'_, Vec<Target>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// The running log.
pub struct AccessLog {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl AccessLog {
    /// Starts the thread; gives the cores' ends of the rings.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(targets: Arc<Targets>, cores: usize) -> io::Result<(AccessLog, Vec<LineWriter>)> {
        let (writers, readers): (Vec<_>, Vec<_>) = (0..cores).map(|_| ring(RING_BYTES)).unzip();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let mut scribe =
            Scribe { readers, turns: targets.turns.load(Ordering::Acquire), targets, files: Vec::new() };
        let thread = std::thread::Builder::new().name("millrace-log".to_owned()).spawn(move || {
            loop {
                // Looked at before the rings: what was in them when the cores ended is written.
                let stops = flag.load(Ordering::Acquire);
                scribe.look();
                if stops {
                    return;
                }
                std::thread::sleep(LOOK);
            }
        })?;
        Ok((AccessLog { stop, thread: Some(thread) }, writers))
    }

    /// Writes what is left, and ends. The cores have ended.
    pub fn end(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic over there has been reported by its own thread.
            let _ = thread.join();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the thread has.
struct Scribe {
    readers: Vec<LineReader>,
    targets: Arc<Targets>,
    /// By target.
    files: Vec<Sheet>,
    turns: u64,
}

/// One target's lines, and where they go.
struct Sheet {
    what: LogTarget,
    file: Option<File>,
    lines: Vec<u8>,
    /// Whether the last write failed: said once.
    is_broken: bool,
}

impl Scribe {
    fn look(&mut self) {
        let turns = self.targets.turns.load(Ordering::Acquire);
        let Scribe { readers, targets, files, .. } = self;
        for reader in readers {
            reader.take(|tag, line| {
                match tag {
                    NEWS_WARN => return log::warn(String::from_utf8_lossy(line)),
                    NEWS_INFO => return log::info(String::from_utf8_lossy(line)),
                    _ => {}
                }
                if files.len() <= usize::from(tag) {
                    take_new(files, targets);
                }
                if let Some(sheet) = files.get_mut(usize::from(tag)) {
                    sheet.lines.extend_from_slice(line);
                    if sheet.lines.len() >= BATCH_BYTES {
                        sheet.write();
                    }
                }
            });
        }
        for sheet in files.iter_mut() {
            sheet.write();
        }
        if turns != self.turns {
            self.turns = turns;
            take_new(&mut self.files, &self.targets);
            self.files.iter_mut().for_each(Sheet::reopen);
        }
    }
}

fn take_new(files: &mut Vec<Sheet>, targets: &Targets) {
    for t in targets.all().iter_mut().skip(files.len()) {
        let file = t.opened.take();
        files.push(Sheet { what: t.what.clone(), file, lines: Vec::new(), is_broken: false });
    }
}

impl Sheet {
    fn write(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let result = match &mut self.file {
            Some(file) => file.write_all(&self.lines),
            None => io::stdout().write_all(&self.lines).and_then(|()| io::stdout().flush()),
        };
        self.lines.clear();
        match result {
            Ok(()) => self.is_broken = false,
            Err(e) if !self.is_broken => {
                self.is_broken = true;
                log::warn(format_args!(
                    "cannot write {}: {e}; its lines are lost until it can be",
                    self.name()
                ));
            }
            Err(_) => {}
        }
    }

    fn reopen(&mut self) {
        let LogTarget::File(path) = &self.what else { return };
        match open(path) {
            Ok(file) => self.file = Some(file),
            Err(e) => {
                log::warn(format_args!(
                    "cannot open the access log {} anew: {e}; the old file is written on",
                    path.display()
                ));
            }
        }
    }

    fn name(&self) -> String {
        match &self.what {
            LogTarget::Stdout => "the access log to standard output".to_owned(),
            LogTarget::File(path) => format!("the access log {}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_for(path: &Path, text: &str) {
        for _ in 0..3_000 {
            if std::fs::read_to_string(path).unwrap_or_default() == text {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{} has {:?}", path.display(), std::fs::read_to_string(path));
    }

    #[test]
    fn lines_of_all_cores_go_to_their_files_which_may_be_rotated() {
        let dir = std::env::temp_dir().join(format!("millrace-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (a, b) = (dir.join("a.log"), dir.join("b.log"));
        std::fs::write(&a, "old\n").unwrap();
        let targets = Arc::new(Targets::default());
        assert_eq!(targets.number(&LogTarget::File(a.clone())), Ok(0));
        let (mut log, mut cores) = AccessLog::start(Arc::clone(&targets), 2).unwrap();
        assert!(cores[0].put(0, b"one\n"));
        wait_for(&a, "old\none\n");
        // A target of a later config.
        assert_eq!(targets.number(&LogTarget::File(b.clone())), Ok(1));
        assert_eq!(targets.number(&LogTarget::File(a.clone())), Ok(0), "it keeps its number");
        assert!(cores[1].put(1, b"two\n") && cores[1].put(9, b"nobody's\n"));
        wait_for(&b, "two\n");
        let rotated = dir.join("a.log.1");
        std::fs::rename(&a, &rotated).unwrap();
        assert!(cores[1].put(0, b"into the old one\n"));
        wait_for(&rotated, "old\none\ninto the old one\n");
        targets.reopen();
        for _ in 0..3_000 {
            if a.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        for _ in 0..1_000 {
            assert!(cores[0].put(0, b"three\n"));
        }
        log.end();
        assert_eq!(std::fs::read_to_string(&a).unwrap(), "three\n".repeat(1_000), "drained at the end");
        let bad = targets.number(&LogTarget::File(dir.join("no/such/folder")));
        assert!(bad.is_err_and(|e| e.contains("no/such/folder") && e.contains("change the path")));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
