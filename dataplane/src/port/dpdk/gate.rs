//! Where the cores that share a device meet: none receives before every one has set up its queue, and the device stops when
//! the last one has stopped receiving.
//!
//! ```text
//!  core 0  set up ─ arrive ──────────────┐          ┌─ poll … leave ─────────────────┐
//!  core 1  set up ─────── arrive ────────┤ started  ├─ poll …………… leave ─────────────┤ ended: all mbufs are back
//!  core 2  set up ─────────────── arrive ┘ by 2     └─ poll ………………………… leave, ends it ┘
//! ```
//!
//! Both are waits, at the beginning and at the end of a core's life; between them nobody looks here.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A core that has left waits so long for the others to leave.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    cores: u16,
}

struct State {
    awaited: u16,
    /// What came of the start, once there was one.
    started: Option<Result<(), String>>,
    inside: u16,
    ended: bool,
}

impl Gate {
    pub(super) fn new(cores: u16) -> Gate {
        let state = State { awaited: cores, started: None, inside: 0, ended: false };
        Gate { state: Mutex::new(state), changed: Condvar::new(), cores }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This core is ready. Waits for the others; the last one runs `start`, and all hear what came of it.
    pub(super) fn arrive(&self, start: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        let mut s = self.state();
        s.awaited = s.awaited.saturating_sub(1);
        if s.awaited == 0 && s.started.is_none() {
            let result = start();
            s.inside = if result.is_ok() { self.cores } else { 0 };
            s.started = Some(result);
            self.changed.notify_all();
        }
        loop {
            if let Some(result) = &s.started {
                return result.clone();
            }
            s = self.changed.wait(s).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A core will not come: then nothing is started, and those that wait hear of it.
    pub(super) fn abandon(&self) {
        let mut s = self.state();
        if s.started.is_none() {
            s.started = Some(Err("another core did not take its queue; its message says why".to_owned()));
            self.changed.notify_all();
        }
    }

    /// This core has arrived and does not receive any more. The last one runs `end`; if `wait`, the others wait for that.
    /// Gives whether it has ended.
    pub(super) fn leave(&self, wait: bool, end: impl FnOnce()) -> bool {
        let mut s = self.state();
        s.inside = s.inside.saturating_sub(1);
        if s.inside == 0 {
            end();
            s.ended = true;
            self.changed.notify_all();
        } else if wait {
            let until = self.changed.wait_timeout_while(s, PATIENCE, |s| !s.ended);
            s = until.unwrap_or_else(PoisonError::into_inner).0;
        }
        s.ended
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn the_last_to_arrive_starts_and_the_last_to_leave_ends() {
        for cores in [1, 2, 5] {
            let gate = Gate::new(cores);
            let (set_up, started, left, ended) = <(AtomicU32, AtomicU32, AtomicU32, AtomicU32)>::default();
            thread::scope(|scope| {
                for _ in 0..cores {
                    scope.spawn(|| {
                        set_up.fetch_add(1, Ordering::SeqCst);
                        let start = || {
                            assert_eq!(set_up.load(Ordering::SeqCst), u32::from(cores));
                            started.fetch_add(1, Ordering::SeqCst);
                            Ok(())
                        };
                        gate.arrive(start).unwrap();
                        assert_eq!(started.load(Ordering::SeqCst), 1);
                        left.fetch_add(1, Ordering::SeqCst);
                        let end = || {
                            assert_eq!(left.load(Ordering::SeqCst), u32::from(cores));
                            ended.fetch_add(1, Ordering::SeqCst);
                        };
                        assert!(gate.leave(true, end));
                        assert_eq!(ended.load(Ordering::SeqCst), 1);
                    });
                }
            });
        }
    }

    #[test]
    fn all_hear_of_a_start_that_failed() {
        let gate = Gate::new(2);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let no = || Err("no".to_owned());
                    assert_eq!(gate.arrive(no), no());
                });
            }
        });
    }

    #[test]
    fn who_does_not_come_is_not_waited_for() {
        let gate = Gate::new(2);
        thread::scope(|scope| {
            scope.spawn(|| assert!(gate.arrive(|| panic!("nobody else came")).is_err()));
            gate.abandon();
        });
        // Too late to matter.
        let gate = Gate::new(1);
        gate.arrive(|| Ok(())).unwrap();
        gate.abandon();
        assert!(gate.leave(true, || {}));
    }

    #[test]
    fn who_never_received_leaves_at_once() {
        let gate = Gate::new(2);
        thread::scope(|scope| {
            scope.spawn(|| gate.arrive(|| Ok(())).unwrap());
            gate.arrive(|| Ok(())).unwrap();
        });
        assert!(!gate.leave(false, || panic!("the other is still there")));
        assert!(gate.leave(true, || {}));
    }
}
