//! The fuzz targets' bodies on input that is drawn by seed, and on damaged frames.

use std::sync::atomic::Ordering;

use dataplane::rng::Rng;

/// How many inputs: enough to notice, or what MILLRACE_FUZZ_RUNS says.
pub(super) fn runs(default: u64) -> u64 {
    std::env::var("MILLRACE_FUZZ_RUNS").ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// The first seed, so that runs by hand need not begin with the same ones.
pub(super) fn first() -> u64 {
    std::env::var("MILLRACE_FUZZ_FROM").ok().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// Says which seed it was, when one fails.
pub(super) struct Seed(pub(super) u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}: MILLRACE_FUZZ_FROM={} MILLRACE_FUZZ_RUNS=1", self.0, self.0);
        }
    }
}

fn bytes(rng: &mut Rng, n: usize) -> Vec<u8> {
    (0..n).map(|_| rng.next_u64() as u8).collect()
}

/// Frames of each kind, sound but for checksums.
fn frames() -> Vec<Vec<u8>> {
    let v4 = |proto: u8, l4: &[u8]| {
        let total = (20 + l4.len()) as u8;
        [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, total, 0, 1, 0x40, 0, 64, proto, 0, 0][..],
            &[10, 0, 0, 2, 10, 0, 0, 1], l4].concat()
    };
    let v6 = |next: u8, l4: &[u8]| {
        let ip = |n: u8| [&[0xfd][..], &[0; 14], &[n]].concat();
        [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, l4.len() as u8, next, 255][..],
            &ip(2), &ip(1), l4].concat()
    };
    let mut tcp = vec![0x1b, 0x58, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x60, 16, 2, 0, 0, 0, 0, 0, 1, 3, 3, 7];
    tcp.extend([9; 33]);
    let udp = [&[0x1b, 0x58, 0, 53, 0, 20, 0, 0][..], &[5; 12]].concat();
    let echo = [&[8u8, 0, 0, 0, 0, 1, 0, 2][..], &[6; 9]].concat();
    let echo6 = [&[128u8, 0, 0, 0, 0, 1, 0, 2][..], &[6; 9]].concat();
    let solicit = [&[135u8, 0, 0, 0, 0, 0, 0, 0, 0xfd][..], &[0; 14], &[1, 1, 1, 2, 0, 0, 0, 0, 2]].concat();
    let behind = [&[6, 0, 1, 4, 0, 0, 0, 0][..], &tcp].concat();
    vec![
        v4(6, &tcp),
        v4(17, &udp),
        v4(1, &echo),
        v4(47, &tcp),
        v6(6, &tcp),
        v6(17, &udp),
        v6(58, &echo6),
        v6(58, &solicit),
        v6(60, &behind),
        v6(0, &behind),
        v6(43, &behind),
    ]
}

#[test]
fn damaged_frames_never_panic_and_what_is_taken_is_sound() {
    let mut rng = Rng::new(11);
    let sound = frames();
    for f in &sound {
        super::parse(&[&[1][..], f].concat());
    }
    for _ in 0..runs(20_000) {
        let mut f = sound[rng.below(sound.len() as u64) as usize].clone();
        for _ in 0..rng.below(4) {
            let at = rng.below(f.len() as u64) as usize;
            match rng.below(4) {
                0 => f[at] ^= 1 << rng.below(8),
                1 => f[at] = rng.next_u64() as u8,
                2 => f.truncate(at.max(1)),
                _ => f.insert(at, rng.next_u64() as u8),
            }
        }
        super::parse(&[&[rng.next_u64() as u8][..], &f].concat());
    }
    for _ in 0..runs(2000) {
        let n = rng.below(200) as usize;
        super::parse(&bytes(&mut rng, n));
    }
}

#[test]
fn any_sequence_of_segments_keeps_every_invariant() {
    for seed in first()..first() + runs(200) {
        let _seed = Seed(seed);
        let mut rng = Rng::new(seed);
        let n = rng.range(50, 3000) as usize;
        super::frames(&bytes(&mut rng, n));
    }
}

/// Steps of which nearly all segments are plain data and ACKs, and some end something.
fn sensible(rng: &mut Rng, steps: u64) -> Vec<u8> {
    let mut input = vec![rng.next_u64() as u8, rng.next_u64() as u8];
    // Some live long, in some nearly every step ends something.
    let ends_ppm = [0, 2_000, 100_000][rng.below(3) as usize];
    for _ in 0..steps {
        match rng.below(16) {
            0..=7 => {
                let bits = match rng.below(1_000_000) < 2 * ends_ppm {
                    true => 16 + rng.range(1, 8) as u8,
                    false => 16,
                } | [0, 0xc0, 0xc0, rng.next_u64() as u8 & 0xc0][rng.below(4) as usize];
                let at = [0, 0, 0x400 + rng.below(900), 0x400 - rng.below(300), 0x8000 | rng.below(2000)]
                    [rng.below(5) as usize] as u16;
                let ack = [0, 0x80, 0x40 + rng.below(60), 0x80 | (0x40 - rng.below(60))]
                    [rng.below(4) as usize] as u8;
                let len = [0, 0, 1, rng.below(20), rng.below(120)][rng.below(5) as usize];
                input.extend([len as u8, bits]);
                input.extend(at.to_be_bytes());
                input.push(ack);
            }
            8 => match rng.below(8) {
                0 => input.extend([140, rng.below(60) as u8, rng.below(100) as u8]),
                1 => input.extend([140, 1, rng.below(250) as u8]),
                _ => input.extend([150 + rng.below(10) as u8, rng.below(120) as u8, rng.next_u64() as u8]),
            },
            9..=12 => {
                let what =
                    if rng.below(1_000_000) < ends_ppm { 160 + rng.below(38) } else { 160 + rng.below(29) };
                input.extend([what as u8, rng.next_u64() as u8, rng.next_u64() as u8, rng.next_u64() as u8]);
            }
            13 => match rng.below(12) {
                0 => input.push(200),
                1 => input.extend([205, rng.next_u64() as u8, rng.next_u64() as u8, rng.next_u64() as u8, 0]),
                2 => input.extend([120 + rng.below(10) as u8, rng.next_u64() as u8, 0, rng.next_u64() as u8]),
                3 => input.extend([220, if rng.chance(700_000) { 0 } else { rng.next_u64() as u8 }]),
                _ => input.extend([225, rng.next_u64() as u8]),
            },
            _ => input.push(if rng.chance(300_000) { 210 } else { 255 }),
        }
    }
    input
}

/// `MILLRACE_FUZZ_RUNS=100000 cargo test --release -p stack --lib sensible_sequences -- --nocapture`, with overflow
/// checks on, is how the long runs are made.
#[test]
fn sensible_sequences_keep_every_invariant() {
    let began = super::SEGMENTS.load(Ordering::Relaxed);
    let all = runs(300);
    for seed in first()..first() + all {
        let _seed = Seed(seed);
        let mut rng = Rng::new(seed ^ 0xABCD);
        // By hand they are longer: making a world costs as much as a hundred steps.
        let steps = if all > 1000 { rng.range(20, 10_000) } else { rng.range(20, 600) };
        let input = sensible(&mut rng, steps);
        super::frames(&input);
        if (seed + 1 - first()).is_multiple_of(2000) {
            println!(
                "{} seeds, {} frames",
                seed + 1 - first(),
                super::SEGMENTS.load(Ordering::Relaxed) - began
            );
        }
    }
    println!("{} frames in", super::SEGMENTS.load(Ordering::Relaxed) - began);
}
