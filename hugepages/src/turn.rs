//! One after the other: programs that count free hugepages, and then take them.

use std::fs::File;
use std::time::{Duration, Instant};

/// So long others are waited for: they may have much memory to clear.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Waits until no other node, nor another thread of this one, is between its count of free hugepages and having taken them:
/// two that start at once would both count the same ones. It is this one's turn until the file is dropped, or the process
/// ends. Whoever may not have it, or not in time, goes on without.
pub fn turn() -> Option<File> {
    // Any file that all have, and may read, will do.
    let file = File::open("/proc/sys/vm/nr_hugepages").ok()?;
    let until = Instant::now() + WAIT_MAX;
    while file.try_lock().is_err() {
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_after_the_other() {
        let first = turn().expect("nobody has it for long");
        let second = std::thread::spawn(|| turn().map(|_| Instant::now()));
        std::thread::sleep(Duration::from_millis(20));
        let given_up = Instant::now();
        drop(first);
        // Others on this machine may have had theirs in between, but it was not before ours ended.
        assert!(second.join().expect("no panic").is_none_or(|had| had >= given_up));
    }
}
