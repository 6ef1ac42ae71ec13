//! What the config has to fit: the machine's cores and memory.

use std::fs;

/// Facts about the machine, read once; tests make their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Numbers of the CPUs that are on line.
    pub cores: Vec<u16>,
    /// RAM, or what our control group may use of it.
    pub memory_bytes: u64,
}

impl Machine {
    /// The machine that we run on.
    pub fn this() -> Machine {
        let cores = fs::read_to_string("/sys/devices/system/cpu/online").ok();
        let cores = cores.as_deref().and_then(cpu_list).unwrap_or_else(|| {
            // Without sysfs (some containers) the count is known, the numbers are a guess.
            let count =
                std::thread::available_parallelism().map_or(1, |n| n.get().min(usize::from(u16::MAX)));
            (0..count as u16).collect()
        });
        let info = rustix::system::sysinfo();
        let ram_bytes = info.totalram.saturating_mul(u64::from(info.mem_unit.max(1)));
        let group_max = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
        let group_bytes = group_max.and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX);
        Machine { cores, memory_bytes: ram_bytes.min(group_bytes) }
    }

    /// What `memory` is when the config does not say: the smaller of 1 GiB and an eighth of the machine's, but
    /// never less than a node needs.
    pub fn memory_default_bytes(&self) -> u64 {
        (self.memory_bytes / 8).clamp(super::MEMORY_BYTES_MIN, 1 << 30)
    }
}

/// The kernel's list format: `0-3,8,10-11`.
fn cpu_list(text: &str) -> Option<Vec<u16>> {
    let mut cores = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?;
        cores.extend(range);
    }
    Some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_of_cpus() {
        assert_eq!(cpu_list("0-3,8,10-11\n"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        assert_eq!(cpu_list("0\n"), Some(vec![0]));
        assert_eq!(cpu_list(""), None);
        assert_eq!(cpu_list("a-b"), None);
    }

    #[test]
    fn this_machine_has_cores_and_memory() {
        let machine = Machine::this();
        assert!(!machine.cores.is_empty());
        assert!(machine.memory_bytes > 0);
        let default = machine.memory_default_bytes();
        assert!((super::super::MEMORY_BYTES_MIN..=1 << 30).contains(&default));
    }
}
