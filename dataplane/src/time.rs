//! Time as a value. Only [`Clock`] reads a clock; everything below the core loop is told the time.
#![allow(unsafe_code)] // RDTSC.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds since the clock's start (in the simulator: since the seed's).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// Later than everything: "no deadline".
    pub const NEVER: Time = Time(u64::MAX);

    /// From milliseconds.
    pub const fn from_ms(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    /// Nanoseconds from `earlier` until this; 0 when this is not later.
    #[inline]
    pub const fn since_ns(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This, `ns` later.
    #[inline]
    pub const fn plus_ns(self, ns: u64) -> Time {
        Time(self.0.saturating_add(ns))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, d: Duration) -> Time {
        self.plus_ns(d.as_nanos() as u64)
    }
}

impl Sub for Time {
    type Output = Duration;
    fn sub(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.since_ns(earlier))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000_000, self.0 / 1_000 % 1_000_000)
    }
}

/// Where a core gets its time from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The TSC, scaled by a rate that was measured against the kernel's monotonic clock.
    Tsc {
        /// TSC at `Time(0)`.
        start: u64,
        /// Nanoseconds per cycle, as a fixed-point number with 32 fractional bits.
        ns_per_cycle_q32: u64,
    },
    /// The kernel's monotonic clock, where the TSC is not invariant.
    Monotonic(std::time::Instant),
}

impl Clock {
    /// The best clock of this machine. Takes about 20 ms to calibrate the TSC.
    pub fn calibrated() -> Clock {
        if !tsc_is_invariant() {
            return Clock::Monotonic(std::time::Instant::now());
        }
        let (t0, c0) = (std::time::Instant::now(), cycles());
        while t0.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let (ns, c1) = (t0.elapsed().as_nanos() as u64, cycles());
        let rate = ((u128::from(ns)) << 32) / u128::from((c1 - c0).max(1));
        Clock::Tsc { start: c0, ns_per_cycle_q32: rate as u64 }
    }

    /// The time now.
    #[inline]
    pub fn now(&self) -> Time {
        match self {
            Clock::Tsc { start, ns_per_cycle_q32 } => {
                let c = cycles().saturating_sub(*start);
                Time(((u128::from(c) * u128::from(*ns_per_cycle_q32)) >> 32) as u64)
            }
            Clock::Monotonic(start) => Time(start.elapsed().as_nanos() as u64),
        }
    }

    /// Cycles in a second, for reports.
    pub fn cycles_per_second(&self) -> u64 {
        match self {
            Clock::Tsc { ns_per_cycle_q32, .. } => {
                ((1_000_000_000u128 << 32) / u128::from(*ns_per_cycle_q32)) as u64
            }
            Clock::Monotonic(_) => 1_000_000_000,
        }
    }
}

/// The cycle counter: for stage costs and the clock, never for logic.
#[inline]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: RDTSC has no operands and no effect on memory; every x86-64 has it.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        0
    }
}

fn tsc_is_invariant() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        // CPUID.80000007H:EDX[8]: invariant TSC (Intel SDM vol. 2A, CPUID).
        let has_leaf = std::arch::x86_64::__cpuid(0x8000_0000).eax >= 0x8000_0007;
        has_leaf && std::arch::x86_64::__cpuid(0x8000_0007).edx & (1 << 8) != 0
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_moves_forward() {
        let c = Clock::calibrated();
        let a = c.now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(c.now().since_ns(a) >= 1_000_000);
        assert!(c.cycles_per_second() > 100_000_000);
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Time(5).since_ns(Time(9)), 0);
        assert_eq!(Time::NEVER.plus_ns(1), Time::NEVER);
        assert_eq!(Time::from_ms(1500).to_string(), "1.500000s");
    }
}
