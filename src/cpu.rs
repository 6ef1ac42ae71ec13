//! Whether this CPU has what the program was built for. Without it the first such instruction would end the process
//! with SIGILL and not a word.

/// Features of x86-64-v3 that were built in and are missing here; empty where all is well.
///
/// `is_x86_feature_detected!` is no help: it knows what it was compiled with and does not look.
#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
fn missing() -> Vec<&'static str> {
    use core::arch::x86_64::{__cpuid, __cpuid_count};

    let (basic, extended) = (__cpuid(1), __cpuid_count(7, 0));
    let more = __cpuid(0x8000_0001);
    let bits = [
        ("SSSE3", basic.ecx >> 9),
        ("FMA", basic.ecx >> 12),
        ("SSE4.2", basic.ecx >> 20),
        ("MOVBE", basic.ecx >> 22),
        ("OSXSAVE", basic.ecx >> 27),
        ("F16C", basic.ecx >> 29),
        ("BMI1", extended.ebx >> 3),
        ("AVX2", extended.ebx >> 5),
        ("BMI2", extended.ebx >> 8),
        ("LZCNT", more.ecx >> 5),
    ];
    bits.iter().filter(|(_, bit)| bit & 1 == 0).map(|(name, _)| *name).collect()
}

#[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
fn missing() -> Vec<&'static str> {
    Vec::new()
}

/// What is wrong with this CPU, with the mend.
///
/// # Errors
/// A sentence for the operator.
pub fn check() -> Result<(), String> {
    match &missing()[..] {
        [] => Ok(()),
        names => Err(format!(
            "this CPU lacks {}, for which this program was built; build it with RUSTFLAGS=\"-C target-cpu=x86-64\"",
            names.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cpu_that_runs_this_is_good_enough() {
        assert_eq!(super::check(), Ok(()));
    }
}
