//! Which CPUs the core and its helper run on: as in a node, not on one.

use l7::tls::offload::Host;

/// Keeps the helper off the core's CPU; nothing else.
pub struct Apart;

impl Host for Apart {
    fn started(&self, _: usize) {
        keep_to(1);
    }
    fn done(&self, _: usize) {}
}

/// Keeps this thread on one of the CPUs that the machine has, if it has as many. The core is to be on 0.
pub fn keep_to(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    // With one CPU for all there is nothing to be kept apart.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}
