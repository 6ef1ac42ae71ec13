//! DPDK's environment (EAL): started once in a process, from values of ours; and devices added to it and taken away.
//!
//! EAL pins the thread that starts it and would hand its mask on: it is started on a thread of its own, which may run
//! wherever this process may, and ends. A core's thread registers itself, or DPDK would have no mempool cache for it.
#![allow(unsafe_code)] // Calls of libdpdk that take C strings or nothing at all.

use std::ffi::{CStr, CString, c_int};
use std::sync::Mutex;

use dpdk_sys as sys;
use hugepages::PagePolicy;

/// EAL's own heap: queues, rings, names of devices.
const BASE_BYTES: u64 = 32 << 20;

/// What EAL is started from.
pub struct EalConfig {
    /// For the buffers of all ports.
    pub buffers_bytes: u64,
    /// Whether hugepages are to be used.
    pub pages: PagePolicy,
    /// NICs by PCI address, each with its driver's arguments behind a comma: `0000:3b:00.0,a=b`. DPDK looks at no other.
    pub nics: Vec<String>,
    /// More arguments of EAL's, as on the command line of any DPDK program.
    pub args: Vec<String>,
}

/// Proof that EAL runs in this process.
#[derive(Clone, Copy, Debug)]
pub struct Eal {
    hugepages: bool,
    nics: bool,
    /// MiB of hugepages that were needed and free, where that is why there are none.
    short: Option<(u64, u64)>,
}

/// What came of the one start that a process has.
static ANSWER: Mutex<Option<Result<Eal, String>>> = Mutex::new(None);

/// Where a device is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bus {
    /// DPDK makes it up.
    Virtual,
    Pci,
}

impl Bus {
    fn name(self) -> &'static CStr {
        match self {
            Bus::Virtual => c"vdev",
            Bus::Pci => c"pci",
        }
    }
}

impl Eal {
    /// Starts EAL, if it does not run already: then what it was started from stays.
    ///
    /// # Errors
    /// One sentence, with the mend. EAL can be tried only once in a process: later calls answer the same.
    pub fn start(config: &EalConfig) -> Result<Eal, String> {
        let mut answer = ANSWER.lock().map_err(|_| "DPDK's start has panicked".to_owned())?;
        answer.get_or_insert_with(|| start(config)).clone()
    }

    /// EAL, if it has been started in this process.
    pub fn running() -> Option<Eal> {
        ANSWER.lock().ok()?.clone()?.ok()
    }

    /// Whether its memory is in hugepages.
    pub fn hugepages(self) -> bool {
        self.hugepages
    }

    /// What its memory is in, and why, where it was to be something else.
    pub fn pages(self) -> String {
        match self.short {
            _ if self.hugepages => "hugepages".to_owned(),
            None => "normal pages".to_owned(),
            Some((need, 0)) => format!("normal pages (needs {need} MiB of hugepages, none are free)"),
            Some((need, free)) => {
                format!("normal pages (needs {need} MiB of hugepages, {free} MiB are free)")
            }
        }
    }

    /// Whether it was started with NICs, which read and write memory by DMA.
    pub(super) fn has_nics(self) -> bool {
        self.nics
    }

    /// Makes this thread known to DPDK until it ends.
    ///
    /// # Errors
    /// When DPDK has no room for another thread.
    pub fn register_thread(self) -> Result<(), String> {
        struct Seat(Result<(), String>);
        impl Drop for Seat {
            fn drop(&mut self) {
                if self.0.is_ok() {
                    // SAFETY: this thread registered itself, and uses DPDK no more: its locals are gone.
                    unsafe { sys::rte_thread_unregister() }
                }
            }
        }
        thread_local! {
            // SAFETY: EAL runs: there is an `Eal`.
            static SEAT: Seat = Seat(match unsafe { sys::rte_thread_register() } {
                0.. => Ok(()),
                _ => Err(format!("DPDK takes no more threads: {}; use fewer cores", last_error())),
            });
        }
        SEAT.with(|seat| seat.0.clone())
    }

    /// Adds the device `name` and gives its DPDK port number.
    pub(super) fn add(self, bus: Bus, name: &CStr, args: &CStr) -> Result<u16, String> {
        let port = || {
            let mut port = 0;
            // SAFETY: a C string, and a place for the number.
            let rc = unsafe { sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &raw mut port) };
            (rc == 0).then_some(port)
        };
        // The NICs that EAL was started with are there already, until they have been removed for the first time.
        match (bus, port()) {
            (Bus::Pci, Some(port)) => return Ok(port),
            (Bus::Virtual, Some(_)) => return Err("a device of this name is there already".to_owned()),
            (_, None) => {}
        }
        // SAFETY: EAL runs; three C strings that outlive the call.
        let rc = unsafe { sys::rte_eal_hotplug_add(bus.name().as_ptr(), name.as_ptr(), args.as_ptr()) };
        if rc < 0 {
            return Err(text(-rc));
        }
        // A device can be taken and still have made no port.
        port().ok_or_else(|| "it was made without a port".to_owned())
    }

    /// Removes it; its port must be closed.
    pub(super) fn remove(self, bus: Bus, name: &CStr) {
        // SAFETY: EAL runs; two C strings that outlive the call.
        unsafe { sys::rte_eal_hotplug_remove(bus.name().as_ptr(), name.as_ptr()) };
    }
}

fn start(config: &EalConfig) -> Result<Eal, String> {
    let need_mib = (config.buffers_bytes + BASE_BYTES).div_ceil(1 << 20);
    // From the count until DPDK has them. Others do not ask, and then its start fails.
    let turn = (config.pages != PagePolicy::NormalOnly).then(hugepages::turn);
    let free_mib = if config.pages == PagePolicy::NormalOnly { 0 } else { free_hugepages_mib() };
    let hugepages = free_mib >= need_mib;
    if config.pages == PagePolicy::HugeOnly && !hugepages {
        return Err(too_few(need_mib, free_mib));
    }
    let nics = !config.nics.is_empty();
    let arguments = arguments(need_mib, hugepages, &allowed_cpus(), config);
    let arguments: Result<Vec<_>, _> = arguments.into_iter().map(CString::new).collect();
    let arguments = arguments.map_err(|_| "an argument for DPDK has a zero byte in it".to_owned())?;
    let eal = std::thread::Builder::new().name("millrace-eal".to_owned());
    let init = eal.spawn(move || {
        // EAL keeps some of them.
        let mut argv: Vec<_> = arguments.into_iter().map(CString::into_raw).collect();
        // SAFETY: argc pointers to C strings that can be written to and live for ever.
        let rc = unsafe { sys::rte_eal_init(argv.len() as c_int, argv.as_mut_ptr()) };
        if rc < 0 { Err(last_error()) } else { Ok(()) }
    });
    let init = init.map_err(|e| format!("cannot start a thread for DPDK: {e}"))?;
    let short = (config.pages == PagePolicy::Best && !hugepages).then_some((need_mib, free_mib));
    let started = init.join();
    drop(turn);
    match started {
        Ok(Ok(())) => Ok(Eal { hugepages, nics, short }),
        Ok(Err(e)) if hugepages => Err(format!(
            "DPDK does not start: {e}; its own message is above. If another program took hugepages at this moment, start \
             again, or write pages = \"normal\" in [node]"
        )),
        Ok(Err(e)) => Err(format!("DPDK does not start: {e}; its own message is above")),
        Err(_) => Err("DPDK's start has panicked".to_owned()),
    }
}

fn too_few(need_mib: u64, free_mib: u64) -> String {
    let have = match free_mib {
        0 => "none are free".to_owned(),
        n => format!("{n} MiB are free"),
    };
    format!(
        "DPDK needs {need_mib} MiB of hugepages, and {have}; reserve that many more: sysctl vm.nr_hugepages=$(( $(sysctl \
         -n vm.nr_hugepages) + {} )), or let normal pages do: pages = \"best\" in [node]",
        (need_mib - free_mib).div_ceil(2)
    )
}

fn arguments(need_mib: u64, hugepages: bool, cpus: &[usize], config: &EalConfig) -> Vec<String> {
    // The two are refused together.
    let memory = if hugepages { "--in-memory" } else { "--no-huge" };
    let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
    let mut all = vec!["millrace".to_owned(), memory.to_owned(), "-m".to_owned(), need_mib.to_string()];
    // No other process is to find ours; NICs that are not ours are not looked at.
    all.extend(["--no-shconf", "--no-telemetry"].map(str::to_owned));
    match &config.nics[..] {
        [] => all.push("--no-pci".to_owned()),
        nics => all.extend(nics.iter().flat_map(|nic| ["-a".to_owned(), nic.clone()])),
    }
    // One lcore of EAL's own, for the thread that starts it, on all CPUs that this process may use.
    all.extend(["--lcores".to_owned(), format!("0@({})", cpus.join(","))]);
    all.push("--log-level=error".to_owned());
    all.extend(config.args.iter().cloned());
    all
}

/// The CPUs that this process may run on.
fn allowed_cpus() -> Vec<usize> {
    // SAFETY: all zeroes is an empty set, and the call writes one set.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set);
        set
    };
    // SAFETY: reads bits of the set.
    let cpus: Vec<_> =
        (0..libc::CPU_SETSIZE as usize).filter(|&n| unsafe { libc::CPU_ISSET(n, &set) }).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// Free hugepages of all sizes.
fn free_hugepages_mib() -> u64 {
    let Ok(sizes) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return 0 };
    let free_kib = |size: std::fs::DirEntry| -> Option<u64> {
        let name = size.file_name().into_string().ok()?;
        let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count = |file: &str| -> Option<u64> {
            std::fs::read_to_string(size.path().join(file)).ok()?.trim().parse().ok()
        };
        // Free, but promised to somebody.
        let promised = count("resv_hugepages").unwrap_or(0);
        Some(kib * count("free_hugepages")?.saturating_sub(promised))
    };
    sizes.flatten().filter_map(free_kib).sum::<u64>() >> 10
}

/// What DPDK's last call on this thread failed with.
pub(super) fn last_error() -> String {
    // SAFETY: reads a thread-local.
    text(unsafe { sys::mr_errno() })
}

/// DPDK's words for an error number.
pub(super) fn text(errno: c_int) -> String {
    // SAFETY: gives a C string that stays until this thread's next call; copied here.
    unsafe { CStr::from_ptr(sys::rte_strerror(errno)) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_never_ask_for_no_hugepages_in_memory() {
        let mut config = EalConfig {
            buffers_bytes: 0,
            pages: PagePolicy::Best,
            nics: Vec::new(),
            args: vec!["--file-prefix=x".to_owned()],
        };
        let all = arguments(48, false, &[0, 3], &config);
        assert!(all.contains(&"--no-huge".to_owned()) && !all.contains(&"--in-memory".to_owned()));
        assert!(all.windows(2).any(|w| w == ["-m", "48"]));
        assert!(all.windows(2).any(|w| w == ["--lcores", "0@(0,3)"]));
        assert_eq!(all.last().map(String::as_str), Some("--file-prefix=x"));
        assert!(all.contains(&"--no-pci".to_owned()));
        config.nics = vec!["0000:3b:00.0".to_owned(), "0000:3b:00.1,a=b".to_owned()];
        let e = too_few(48, 0);
        assert!(e.contains("48 MiB of hugepages, and none are free") && e.contains("+ 24 ))"), "{e}");
        assert!(too_few(48, 40).contains("40 MiB are free"), "{}", too_few(48, 40));
        let all = arguments(48, true, &[0], &config);
        assert!(!all.contains(&"--no-huge".to_owned()) && all.contains(&"--in-memory".to_owned()));
        assert!(all.windows(4).any(|w| w == ["-a", "0000:3b:00.0", "-a", "0000:3b:00.1,a=b"]));
        assert!(!all.contains(&"--no-pci".to_owned()));
    }
}
