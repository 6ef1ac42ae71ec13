//! Asking the kernel for punctual wake-ups.
#![allow(unsafe_code)] // sched_setscheduler.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::Pid;
use rustix::thread::{ClockId, CpuSet, sched_setaffinity};

/// Runs this thread before all ordinary ones, where that is permitted; says whether it is.
pub fn real_time() -> bool {
    // SAFETY: all zeroes are a value of it.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = 1;
    // SAFETY: the struct outlives the call, which reads it.
    let set = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    };
    // A page that must be fetched first is late too. Not for ordinary users: beyond their limit, memory that is to be
    // locked cannot be had at all.
    if set == 0 && rustix::process::geteuid().is_root() {
        let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE);
    }
    set == 0
}

/// Timers of this thread end when they are due, not up to 50 µs later.
pub fn sharp_timers() {
    let slack = std::num::NonZeroU64::new(1);
    let _ = rustix::thread::set_current_timer_slack(slack);
}

/// Keeps this thread on a CPU.
pub fn pin(cpu: usize) -> Result<(), String> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(format!("--cpu {cpu}: no such CPU"));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None::<Pid>, &set).map_err(|e| format!("--cpu {cpu}: {e}"))
}

/// CPU time of this thread.
pub fn cpu_ns() -> u64 {
    let t = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}
