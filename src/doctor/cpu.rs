//! CPUs and clock: what the program needs of them, and what keeps a data core undisturbed.

use super::files::{parse_list, show_list};
use super::{Finding, Host, Kind};

/// What x86-64-v3 adds, in /proc/cpuinfo's words (LZCNT is `abm` there).
const V3: [&str; 9] = ["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"];
const CPUS: &str = "/sys/devices/system/cpu";
const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0";

pub fn findings(host: &Host) -> Vec<Finding> {
    let info = Info::read(host);
    let mut all = vec![level(&info), cores(host, &info), isolated(host, &info)];
    all.extend(governor(host, &info));
    all.push(clock(host, &info));
    all
}

/// What is known of the CPUs.
struct Info {
    /// `vendor_id`.
    model: String,
    flags: Vec<String>,
    online: Vec<u32>,
}

impl Info {
    fn read(host: &Host) -> Info {
        let text = host.files.text("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find(|l| l.split(':').next().is_some_and(|n| n.trim() == name));
            line.and_then(|l| l.split_once(':')).map_or("", |(_, v)| v.trim())
        };
        let mut online = host.files.list(&format!("{CPUS}/online"));
        if online.is_empty() {
            // Without /sys: as many as are listed, by their numbers there.
            let numbers = text.lines().filter_map(|l| l.strip_prefix("processor")?.split_once(':'));
            online = numbers.filter_map(|(_, n)| n.trim().parse().ok()).collect();
        }
        let flags = field("flags").split_whitespace().map(str::to_owned).collect();
        Info { model: field("model name").to_owned(), flags, online }
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f == flag)
    }
}

fn level(info: &Info) -> Finding {
    const CHECK: &str = "cpu.level";
    if info.flags.is_empty() {
        return Finding::note(CHECK, "what the CPU can do is not known: /proc/cpuinfo cannot be read");
    }
    let missing: Vec<&str> = V3.into_iter().filter(|f| !info.has(f)).collect();
    if missing.is_empty() {
        return Finding::ok(CHECK, format!("{} has all of x86-64-v3", info.model));
    }
    let found =
        format!("{} lacks {} of x86-64-v3, which millrace is built for", info.model, missing.join(", "));
    Finding::warn(CHECK, found)
        .mend("build for this CPU: RUSTFLAGS=\"-C target-cpu=native\" cargo build --release")
        .blocks(if cfg!(target_feature = "avx2") { &Kind::ALL } else { &[] })
}

/// How many, on how many nodes, and which share a core.
fn cores(host: &Host, info: &Info) -> Finding {
    const CHECK: &str = "cpu.cores";
    let siblings = |cpu: &u32| host.files.list(&format!("{CPUS}/cpu{cpu}/topology/thread_siblings_list"));
    let mut groups: Vec<Vec<u32>> = info.online.iter().map(siblings).filter(|g| g.len() > 1).collect();
    groups.sort();
    groups.dedup();
    let nodes = host.files.list("/sys/devices/system/node/online").len().max(1);
    let count = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    let found = format!("{} on {}", count(info.online.len(), "CPU"), count(nodes, "NUMA node"));
    match &groups[..] {
        _ if info.online.len() == 1 => Finding::note(
            CHECK,
            format!("{found}: the data core shares it with everything else on this host"),
        )
        .mend("give the host a second CPU"),
        [] => Finding::ok(CHECK, format!("{found}, no two on one core")),
        [first, ..] => Finding::note(
            CHECK,
            format!(
                "{found}; CPUs share cores in {} ({}{}): a data core beside another has about half a core's speed",
                count(groups.len(), "group"),
                show_list(first),
                if groups.len() > 1 { ", …" } else { "" }
            ),
        )
        .mend("name one CPU of each group in `cores` of [node], and leave the others idle"),
    }
}

/// Cores that the kernel keeps free of other work.
fn isolated(host: &Host, info: &Info) -> Finding {
    const CHECK: &str = "cpu.isolated";
    let list = |name: &str| host.files.list(&format!("{CPUS}/{name}"));
    let (isolated, mut ticks_off) = (list("isolated"), list("nohz_full"));
    if ticks_off.is_empty() {
        ticks_off = cmdline(host, "nohz_full=").map(|v| parse_list(&v)).unwrap_or_default();
    }
    let matters = |f: Finding| f.matters_to(&[Kind::Dpdk, Kind::Tap]);
    if isolated.is_empty() {
        let free: Vec<u32> = others(host, &info.online);
        let f = Finding::note(
            CHECK,
            "no CPU is kept free of other work: a data core waits when the kernel runs something else",
        );
        let Some(args) = (!free.is_empty()).then(|| arguments(&free)) else { return matters(f) };
        return matters(f.mend(boot_with(&args)));
    }
    let found = format!("kept free of other work: CPU {}", show_list(&isolated));
    let ticking: Vec<u32> = isolated.iter().copied().filter(|c| !ticks_off.contains(c)).collect();
    if ticking.is_empty() {
        return matters(Finding::ok(CHECK, format!("{found}, without the timer's ticks")));
    }
    let found = format!("{found}; the timer still ticks on {}", show_list(&ticking));
    matters(Finding::note(CHECK, found).mend(boot_with(&arguments(&isolated))))
}

/// All but the first CPU and those that share its core: the kernel and the control threads need one.
fn others(host: &Host, online: &[u32]) -> Vec<u32> {
    let Some(&first) = online.first() else { return Vec::new() };
    let beside = host.files.list(&format!("{CPUS}/cpu{first}/topology/thread_siblings_list"));
    online.iter().copied().filter(|c| *c != first && !beside.contains(c)).collect()
}

fn arguments(cpus: &[u32]) -> String {
    let list = show_list(cpus);
    format!("isolcpus=managed_irq,domain,{list} nohz_full={list} rcu_nocbs={list}")
}

/// How arguments get onto the kernel's command line.
pub fn boot_with(args: &str) -> String {
    format!("add \"{args}\" to GRUB_CMDLINE_LINUX in /etc/default/grub; then: update-grub && reboot")
}

/// The value of an argument on the kernel's command line; the last one counts.
pub fn cmdline(host: &Host, name: &str) -> Option<String> {
    let line = host.files.text("/proc/cmdline")?;
    line.split_whitespace().filter_map(|a| a.strip_prefix(name)).next_back().map(str::to_owned)
}

/// Where the clock rate is the kernel's to choose.
fn governor(host: &Host, info: &Info) -> Option<Finding> {
    const CHECK: &str = "cpu.governor";
    let read = |cpu: &u32| host.files.text(&format!("{CPUS}/cpu{cpu}/cpufreq/scaling_governor"));
    let of: Vec<(u32, String)> = info.online.iter().filter_map(|c| Some((*c, read(c)?))).collect();
    // A virtual machine has none, as a rule.
    let (_, first) = of.first()?;
    let slow: Vec<u32> = of.iter().filter(|(_, g)| g != "performance").map(|(c, _)| *c).collect();
    let f = match slow.as_slice() {
        [] => Finding::ok(CHECK, "all CPUs run at the performance governor"),
        _ => {
            let found = format!("CPU {} may run slower than it can (governor {first})", show_list(&slow));
            Finding::warn(CHECK, found)
                .mend("echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")
        }
    };
    Some(f.matters_to(&[Kind::Dpdk, Kind::Tap]))
}

fn clock(host: &Host, info: &Info) -> Finding {
    const CHECK: &str = "cpu.clock";
    let read = |name: &str| host.files.text(&format!("{CLOCK}/{name}"));
    let Some(current) = read("current_clocksource") else {
        return Finding::note(CHECK, "the clock source is not known: /sys cannot be read");
    };
    let steady = info.has("constant_tsc") && info.has("nonstop_tsc");
    if current == "tsc" {
        return Finding::ok(CHECK, "the kernel's clock is the TSC");
    }
    let f = Finding::warn(
        CHECK,
        format!("the kernel's clock is {current}, not the TSC: reading the time is slow"),
    );
    if read("available_clocksource").is_some_and(|a| a.split_whitespace().any(|c| c == "tsc")) {
        return f.mend(format!("echo tsc > {CLOCK}/current_clocksource"));
    }
    if steady {
        return f.mend(format!(
            "look why the kernel gave it up: dmesg | grep -i tsc; if the host's maker says that it is good: {}",
            boot_with("tsc=reliable")
        ));
    }
    Finding::warn(
        CHECK,
        format!(
            "the kernel's clock is {current}, and this CPU's TSC is not a steady one: times measured here are inexact"
        ),
    )
}
