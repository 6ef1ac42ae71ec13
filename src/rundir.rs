//! The run directory: where a live node can be found.
//!
//! ```text
//! ROOT                      $MILLRACE_RUN, else /run/millrace as root, $XDG_RUNTIME_DIR/millrace, /tmp/millrace-UID
//! └── NAME                  one folder per [node] name, mode 0700
//!     ├── pid               locked (flock) by the node as long as it lives; its process ID in decimal
//!     ├── counters          the shared-memory segment; outlives a crash
//!     └── control.sock
//! ```
//!
//! The lock says whether a node lives, not the number in the file: the kernel drops it with the process, also after
//! kill -9, and a number can be somebody else's by now. The pid file is emptied at the end and never removed: two
//! nodes could otherwise hold locks on two files of that name.

use std::env;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::config::names;

/// `sun_path` holds 108 bytes with the closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A node's own folder, held as long as this lives.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Keeps the lock.
    pid: File,
}

/// The folder of a live node, found by somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The node's name, which is the folder's.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
    /// Its process, where the file says so.
    pub pid: Option<u32>,
}

/// Why a node can't have its folder.
#[derive(Debug)]
pub enum CreateError {
    /// A live node of that name has it.
    Taken {
        /// The folder.
        path: PathBuf,
        /// Its process, where the file says so.
        pid: Option<u32>,
    },
    /// The folder is not safe to use.
    Refused {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// The system said no.
    Io {
        /// What was tried on.
        path: PathBuf,
        /// Its answer.
        error: io::Error,
    },
}

/// Why no node was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FindError {
    /// None lives under this root. Exit code 3.
    NoneLive {
        /// Where was looked.
        root: PathBuf,
    },
    /// The named one does not live; its folder may be there with the counters of its last moments. Exit code 3.
    NotLive {
        /// Its folder, there or not.
        path: PathBuf,
    },
    /// Several live and none was named. Exit code 2.
    Several {
        /// Their names, sorted.
        names: Vec<String>,
    },
}

impl RunDir {
    /// Makes and holds the folder for a node of this name.
    pub fn create(name: &str) -> Result<RunDir, CreateError> {
        RunDir::create_in(&root(), name)
    }

    /// The same under another root.
    pub fn create_in(root: &Path, name: &str) -> Result<RunDir, CreateError> {
        debug_assert!(names::label(name).is_ok(), "the config lets only labels through");
        let path = root.join(name);
        let io = |error| CreateError::Io { path: path.clone(), error };
        if control_socket(&path).as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            let cause = "its path is too long for a socket in it";
            return Err(CreateError::Refused { path, cause });
        }
        // The root may be shared between users ($MILLRACE_RUN=/run/nodes), the node's folder never.
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(io)?;
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io(error)),
            _ => claim(&path)?,
        }

        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        // The folder may have been open to others until now: a link in it must not make us empty another file.
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let mut pid = options.open(pid_file(&path)).map_err(io)?;
        lock(&mut pid, &path)?;
        pid.set_len(0).and_then(|()| writeln!(pid, "{}", std::process::id())).map_err(io)?;
        // A socket of a node that was killed would be in the way of bind().
        match fs::remove_file(control_socket(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io(error)),
            _ => Ok(RunDir { path, pid }),
        }
    }

    /// The live node that `--node` means: a name, a path (anything with a `/`), or, without one, the only one.
    pub fn find(selector: Option<&str>) -> Result<Found, FindError> {
        RunDir::find_in(&root(), selector)
    }

    /// The same under another root.
    pub fn find_in(root: &Path, selector: Option<&str>) -> Result<Found, FindError> {
        if let Some(selector) = selector {
            let path = if selector.contains('/') { PathBuf::from(selector) } else { root.join(selector) };
            return live(&path).ok_or(FindError::NotLive { path });
        }
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        let mut nodes: Vec<Found> = entries.filter_map(|entry| live(&entry.path())).collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        match nodes.len() {
            0 => Err(FindError::NoneLive { root: root.to_path_buf() }),
            1 => Ok(nodes.remove(0)),
            _ => Err(FindError::Several { names: nodes.into_iter().map(|n| n.name).collect() }),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the shared-memory segment of the counters goes.
    pub fn counters(&self) -> PathBuf {
        counters(&self.path)
    }

    /// Where the control socket goes; nothing is there yet.
    pub fn control_socket(&self) -> PathBuf {
        control_socket(&self.path)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // The counters stay for whoever wants to look. Errors have nobody to go to: the lock goes either way.
        let _ = fs::remove_file(self.control_socket());
        let _ = self.pid.set_len(0);
    }
}

impl Found {
    /// The shared-memory segment of the counters.
    pub fn counters(&self) -> PathBuf {
        counters(&self.path)
    }

    /// The control socket.
    pub fn control_socket(&self) -> PathBuf {
        control_socket(&self.path)
    }
}

impl FindError {
    /// The exit code of a verb that needs a node.
    pub fn exit_code(&self) -> std::process::ExitCode {
        match self {
            FindError::NoneLive { .. } | FindError::NotLive { .. } => crate::exit::unreachable(),
            FindError::Several { .. } => crate::exit::usage(),
        }
    }
}

/// Where all folders are.
pub fn root() -> PathBuf {
    let uid = rustix::process::geteuid();
    root_of(
        env::var_os("MILLRACE_RUN").map(PathBuf::from),
        env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
        uid.as_raw(),
    )
}

fn root_of(millrace_run: Option<PathBuf>, xdg_runtime_dir: Option<PathBuf>, uid: u32) -> PathBuf {
    let set = |path: Option<PathBuf>| path.filter(|p| !p.as_os_str().is_empty());
    if let Some(path) = set(millrace_run) {
        return path;
    }
    if uid == 0 {
        return PathBuf::from("/run/millrace");
    }
    match set(xdg_runtime_dir) {
        Some(path) => path.join("millrace"),
        None => PathBuf::from(format!("/tmp/millrace-{uid}")),
    }
}

fn pid_file(path: &Path) -> PathBuf {
    path.join("pid")
}

fn counters(path: &Path) -> PathBuf {
    path.join("counters")
}

fn control_socket(path: &Path) -> PathBuf {
    path.join("control.sock")
}

/// Takes a folder that exists: it must be a folder of ours, not a link to one. In /tmp somebody else may have
/// been first.
fn claim(path: &Path) -> Result<(), CreateError> {
    let io = |error| CreateError::Io { path: path.to_path_buf(), error };
    let refused = |cause| Err(CreateError::Refused { path: path.to_path_buf(), cause });
    let facts = fs::symlink_metadata(path).map_err(io)?;
    if facts.is_symlink() {
        return refused("it is a symbolic link");
    }
    if !facts.is_dir() {
        return refused("it is not a folder");
    }
    if facts.uid() != rustix::process::geteuid().as_raw() {
        return refused("it belongs to somebody else");
    }
    if facts.mode() & 0o7777 != 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(io)?;
    }
    // Whoever may write the root could swap the folder under us: only the sticky bit stops that.
    let root = path.parent().unwrap_or(Path::new("."));
    let facts = fs::metadata(root).map_err(io)?;
    let ours = facts.uid() == rustix::process::geteuid().as_raw() || facts.uid() == 0;
    if !ours || (facts.mode() & 0o022 != 0 && facts.mode() & 0o1000 == 0) {
        return refused("others may rename it (see the owner and mode of the folder above it)");
    }
    Ok(())
}

/// Locks the pid file. Somebody who only asks whether we live holds the lock for a moment: hence the patience.
fn lock(pid: &mut File, path: &Path) -> Result<(), CreateError> {
    for attempt in 0..10 {
        if attempt > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        match pid.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return Err(CreateError::Io { path: path.to_path_buf(), error });
            }
        }
    }
    Err(CreateError::Taken { path: path.to_path_buf(), pid: read_pid(pid) })
}

/// The node of a folder, if it lives.
fn live(path: &Path) -> Option<Found> {
    let name = path.file_name()?.to_str()?.to_string();
    // Never blocks, whatever has been put there under the name.
    let mut pid = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(pid_file(path))
        .ok()?;
    if !pid.metadata().ok()?.is_file() {
        return None;
    }
    match pid.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            Some(Found { name, path: path.to_path_buf(), pid: read_pid(&mut pid) })
        }
        // Ours for a moment, so no node holds it; closing gives it back.
        _ => None,
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CreateError::Taken { path, pid } => {
                let pid = pid.map_or_else(|| "?".to_string(), |pid| pid.to_string());
                let shown = path.display();
                write!(
                    f,
                    "a node of this name is running (process {pid}, {shown}); stop it, or set another name in [node]"
                )
            }
            CreateError::Refused { path, cause } => {
                write!(
                    f,
                    "the run directory {} is refused: {cause}; set $MILLRACE_RUN to a folder of yours",
                    path.display()
                )
            }
            CreateError::Io { path, error } => {
                write!(
                    f,
                    "the run directory {} can't be made ({error}); set $MILLRACE_RUN to a folder of yours",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for CreateError {}

impl fmt::Display for FindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FindError::NoneLive { root } => write!(
                f,
                "no node is running under {}; start one, or set $MILLRACE_RUN or --node if it runs as another user",
                root.display()
            ),
            FindError::NotLive { path } => {
                write!(f, "no node is running in {}; start it, or name another with --node", path.display())
            }
            FindError::Several { names } => {
                write!(f, "{} nodes are running: {}; choose one with --node", names.len(), names.join(", "))
            }
        }
    }
}

impl std::error::Error for FindError {}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A folder of its own for each test, removed at the end.
    struct Temp(PathBuf);

    impl Temp {
        fn new() -> Temp {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = env::temp_dir().join(format!("mr-{}-{number}", std::process::id()));
            DirBuilder::new().mode(0o700).create(&path).expect("a fresh folder");
            Temp(path)
        }
    }

    impl Drop for Temp {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_root_by_environment_and_user() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(root_of(path("/x"), path("/run/user/7"), 0), PathBuf::from("/x"));
        assert_eq!(root_of(None, path("/run/user/0"), 0), PathBuf::from("/run/millrace"));
        assert_eq!(root_of(None, path("/run/user/7"), 7), PathBuf::from("/run/user/7/millrace"));
        assert_eq!(root_of(None, None, 7), PathBuf::from("/tmp/millrace-7"));
        assert_eq!(root_of(path(""), path(""), 7), PathBuf::from("/tmp/millrace-7"));
    }

    #[test]
    fn a_node_is_found_as_long_as_it_lives() {
        let temp = Temp::new();
        let root = temp.0.join("run");
        assert_eq!(RunDir::find_in(&root, None), Err(FindError::NoneLive { root: root.clone() }));

        let dir = RunDir::create_in(&root, "edge").expect("created");
        assert_eq!(fs::metadata(dir.path()).expect("there").mode() & 0o777, 0o700);
        assert_eq!(dir.counters(), root.join("edge/counters"));
        let found = Found { name: "edge".into(), path: root.join("edge"), pid: Some(std::process::id()) };
        assert_eq!(RunDir::find_in(&root, None).as_ref(), Ok(&found));
        assert_eq!(RunDir::find_in(&root, Some("edge")).as_ref(), Ok(&found));
        let by_path = root.join("edge");
        assert_eq!(RunDir::find_in(Path::new("/nowhere"), by_path.to_str()).as_ref(), Ok(&found));
        let other = RunDir::find_in(&root, Some("other"));
        assert_eq!(other, Err(FindError::NotLive { path: root.join("other") }));

        fs::write(dir.counters(), "last words").expect("writable");
        fs::write(dir.control_socket(), "").expect("writable");
        drop(dir);
        assert_eq!(RunDir::find_in(&root, Some("edge")), Err(FindError::NotLive { path: root.join("edge") }));
        assert!(root.join("edge/counters").exists() && !root.join("edge/control.sock").exists());
        RunDir::create_in(&root, "edge").expect("free again");
    }

    #[test]
    fn several_nodes_are_listed() {
        let temp = Temp::new();
        let _b = RunDir::create_in(&temp.0, "b").expect("created");
        let _a = RunDir::create_in(&temp.0, "a").expect("created");
        fs::create_dir(temp.0.join("dead")).expect("created");
        fs::write(temp.0.join("dead/pid"), "1").expect("writable");
        let error = RunDir::find_in(&temp.0, None).expect_err("two");
        assert_eq!(error, FindError::Several { names: vec!["a".into(), "b".into()] });
        assert_eq!(error.to_string(), "2 nodes are running: a, b; choose one with --node");
        assert_eq!(RunDir::find_in(&temp.0, Some("b")).map(|f| f.name), Ok("b".into()));
    }

    #[test]
    fn a_second_node_of_the_name_is_refused() {
        let temp = Temp::new();
        let first = RunDir::create_in(&temp.0, "edge").expect("created");
        let error = RunDir::create_in(&temp.0, "edge").expect_err("taken");
        assert!(
            matches!(error, CreateError::Taken { pid, .. } if pid == Some(std::process::id())),
            "{error}"
        );
        drop(first);
        RunDir::create_in(&temp.0, "edge").expect("free again");
    }

    #[test]
    fn what_a_crashed_node_left_is_taken_over() {
        let temp = Temp::new();
        let path = temp.0.join("edge");
        fs::create_dir(&path).expect("created");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("ours");
        fs::write(path.join("pid"), "4194304999\n").expect("writable");
        fs::write(path.join("control.sock"), "").expect("writable");
        let dir = RunDir::create_in(&temp.0, "edge").expect("nobody holds the lock");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o700, "closed to others");
        assert!(!dir.control_socket().exists());
        assert_eq!(fs::read_to_string(path.join("pid")).expect("there"), format!("{}\n", std::process::id()));
    }

    #[test]
    fn unsafe_folders_are_refused() {
        let temp = Temp::new();
        let refused = |name: &str| match RunDir::create_in(&temp.0, name) {
            Err(CreateError::Refused { cause, .. }) => cause,
            other => panic!("{name}: {other:?}"),
        };
        fs::create_dir(temp.0.join("elsewhere")).expect("created");
        symlink(temp.0.join("elsewhere"), temp.0.join("link")).expect("created");
        assert_eq!(refused("link"), "it is a symbolic link");
        fs::write(temp.0.join("file"), "").expect("writable");
        assert_eq!(refused("file"), "it is not a folder");
        if rustix::process::geteuid().is_root() {
            fs::create_dir(temp.0.join("theirs")).expect("created");
            std::os::unix::fs::chown(temp.0.join("theirs"), Some(65534), None).expect("root may");
            assert_eq!(refused("theirs"), "it belongs to somebody else");
        }
        let deep = temp.0.join("d".repeat(100));
        assert!(matches!(RunDir::create_in(&deep, "edge"), Err(CreateError::Refused { .. })));
        fs::set_permissions(&temp.0, fs::Permissions::from_mode(0o777)).expect("ours");
        assert!(refused("edge").starts_with("others may rename it"));
        fs::set_permissions(&temp.0, fs::Permissions::from_mode(0o1777)).expect("ours");
        RunDir::create_in(&temp.0, "edge").expect("the sticky bit protects it, as in /tmp");
    }
}
