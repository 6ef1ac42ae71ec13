//! The fuzz targets' bodies on input that is drawn by seed, and on damaged frames.

use dataplane::rng::Rng;

/// How many inputs: enough to notice, or what MILLRACE_FUZZ_RUNS says.
fn runs(default: u64) -> u64 {
    std::env::var("MILLRACE_FUZZ_RUNS").ok().and_then(|v| v.parse().ok()).unwrap_or(default)
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
    for seed in 0..runs(200) {
        let mut rng = Rng::new(seed);
        let n = rng.range(50, 3000) as usize;
        super::frames(&bytes(&mut rng, n));
    }
}

/// Random bits are mostly nonsense: here nearly all segments are plain data and ACKs, and some end something.
#[test]
fn sensible_sequences_keep_every_invariant() {
    for seed in 0..runs(300) {
        let mut rng = Rng::new(seed ^ 0xABCD);
        let mut input = vec![seed as u8];
        for _ in 0..rng.range(20, 400) {
            match rng.below(12) {
                0..=5 => {
                    let bits = match rng.below(100) {
                        0..4 => 17,
                        4..8 => 18,
                        _ => 16,
                    } | (rng.next_u64() as u8 & 0xc0);
                    let at = [0, 0, 0x400 + rng.below(900), 0x400 - rng.below(300), 0x8000 | rng.below(2000)]
                        [rng.below(5) as usize] as u16;
                    let ack = [0, 0x80, 0x40 + rng.below(60), 0x80 | (0x40 - rng.below(60))]
                        [rng.below(4) as usize] as u8;
                    let len = [0, 0, 1, rng.below(20), rng.below(120)][rng.below(5) as usize];
                    input.extend([len as u8, bits]);
                    input.extend(at.to_be_bytes());
                    input.push(ack);
                }
                6 => input.extend([145, rng.below(60) as u8, rng.below(100) as u8]),
                7..=10 => {
                    let what = if rng.chance(100_000) { 160 + rng.below(38) } else { 160 + rng.below(29) };
                    input.extend([what as u8, 0, rng.next_u64() as u8, rng.next_u64() as u8]);
                }
                _ => input.push(if rng.chance(50_000) { 200 } else { rng.range(210, 255) as u8 }),
            }
        }
        super::frames(&input);
    }
}
