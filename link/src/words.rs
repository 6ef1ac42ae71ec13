//! What a link shall do, in words like tc-netem's: `rate 100mbit delay 10ms loss 1% burst 5 limit 64kb`.

use dataplane::port::link::{Faults, GilbertElliott};

/// The words, as `--help` shows them.
pub const HELP: &str = "\
What a direction does, in any order, later words override earlier ones:
  rate 100mbit          bits per second of whole frames: bit, kbit, mbit, gbit
  overhead 24           bytes that each frame takes beyond its own when the rate is reckoned (Ethernet: 24)
  limit 64kb | 50ms     drop-tail queue in front of the rate, by bytes (kb = 1024) or by time waited;
                        without the word: 100ms
  delay 10ms            one way: us, ms, s
  jitter 1ms            up to this much more, evenly distributed; keeps the order
  loss 0.1%             each frame for itself
  loss 1% burst 5       in bursts of 5 frames on average, 1 % of all
  loss gemodel P [R [1-H [1-K]]]
                        Gilbert-Elliott as in tc-netem: good to bad, bad to good, lost while bad (100%), while good (0%)
  reorder 1% [5ms]      held back by this time (1ms), so that later ones overtake
  duplicate 1%          sent twice
  corrupt 0.1%          one to three bits of a 16-bit word flip behind the Ethernet header, which checksums must find;
                        a frame that is not IP is dropped instead, as its check sequence would have been wrong
  mtu 1400              longer packets (without the Ethernet header) are dropped silently
Words behind `up` are for the direction from A to B alone, those behind `down` for the other, behind `both` for both
again: delay 10ms up rate 10mbit down rate 100mbit loss 0.1%
Whether a frame is lost, held back, sent twice or damaged depends on the seed and on how many came before it, on
nothing else.";

/// Reads words for both directions; those behind `up` or `down` are for one.
///
/// # Errors
/// Says which word is wrong, and what would be right.
pub fn read_both(words: &str) -> Result<(Faults, Faults), String> {
    let (mut up, mut down, mut to) = (String::new(), String::new(), "both");
    for word in words.split_whitespace() {
        if ["up", "down", "both"].contains(&word) {
            to = word;
            continue;
        }
        for (direction, list) in [("up", &mut up), ("down", &mut down)] {
            if to == "both" || to == direction {
                list.push_str(word);
                list.push(' ');
            }
        }
    }
    let mut faults = (Faults::default(), Faults::default());
    read(&mut faults.0, &up)?;
    read(&mut faults.1, &down)?;
    Ok((with_default_limit(faults.0), with_default_limit(faults.1)))
}

/// Reads words on top of `faults`; says which word is wrong, and what would be right.
fn read(faults: &mut Faults, words: &str) -> Result<(), String> {
    let mut words = words.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let mut value = |what: &str| words.next().ok_or_else(|| format!("\"{word}\" needs {what} behind it"));
        match word {
            "rate" => faults.rate_bps = rate(value("a rate, like 100mbit")?)?,
            "overhead" => faults.overhead_bytes = whole(value("a number of bytes")?)?,
            "delay" => faults.delay_ns = time(value("a time, like 10ms")?)?,
            "jitter" => faults.jitter_ns = time(value("a time, like 1ms")?)?,
            "duplicate" => faults.duplicate_ppm = ppm(value("a share, like 1%")?)?,
            "corrupt" => faults.corrupt_ppm = ppm(value("a share, like 1%")?)?,
            "mtu" => {
                let mtu: usize = whole(value("a number of bytes")?)?;
                faults.frame_bytes_max = mtu + 14;
            }
            "limit" => {
                let limit = value("a size or a time, like 64kb or 50ms")?;
                (faults.queue_bytes, faults.queue_ns) = match time(limit) {
                    Ok(ns) => (0, ns),
                    Err(_) => (size(limit)?, 0),
                };
            }
            "reorder" => {
                faults.reorder_ppm = ppm(value("a share, like 1%")?)?;
                if let Some(ns) = words.peek().and_then(|w| time(w).ok()) {
                    words.next();
                    faults.reorder_ns = ns;
                }
            }
            "loss" => {
                let first = value("a share, like 1%")?;
                (faults.loss_ppm, faults.loss_bursts) = if first == "gemodel" {
                    let mut shares = Vec::new();
                    while let Some(p) = words.peek().filter(|_| shares.len() < 4).and_then(|w| share(w).ok())
                    {
                        words.next();
                        shares.push((p * 1e9).round() as u32);
                    }
                    (0, Some(gemodel(&shares)?))
                } else if words.peek() == Some(&"burst") {
                    words.next();
                    let frames = words.next().and_then(|w| w.parse().ok());
                    let mean = frames.and_then(|n| GilbertElliott::mean(ppm(first).ok()?, n));
                    let mean = mean.ok_or_else(|| {
                        format!("\"loss {first} burst …\": a mean number of frames, 1 or more, that leaves good ones between")
                    })?;
                    (0, Some(mean))
                } else {
                    (ppm(first)?, None)
                };
            }
            _ => {
                return Err(format!(
                    "\"{word}\" is not one of rate, overhead, limit, delay, jitter, loss, reorder, duplicate, corrupt, mtu"
                ));
            }
        }
    }
    Ok(())
}

/// A rate without a limit fills the sender's memory instead of its queue.
fn with_default_limit(mut faults: Faults) -> Faults {
    if faults.rate_bps != 0 && faults.queue_bytes == 0 && faults.queue_ns == 0 {
        faults.queue_ns = 100_000_000;
    }
    faults
}

fn gemodel(shares: &[u32]) -> Result<GilbertElliott, String> {
    const ALL: u32 = 1_000_000_000;
    let &[to_bad_ppb, ref rest @ ..] = shares else {
        return Err("\"loss gemodel\" needs a share behind it: how often a good link turns bad".to_owned());
    };
    Ok(GilbertElliott {
        to_bad_ppb,
        to_good_ppb: rest.first().copied().unwrap_or(ALL - to_bad_ppb),
        loss_bad_ppb: rest.get(1).copied().unwrap_or(ALL),
        loss_good_ppb: rest.get(2).copied().unwrap_or(0),
    })
}

/// A number and its unit.
fn parts(word: &str) -> Option<(f64, String)> {
    let at = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
    let number = word[..at].parse().ok().filter(|n: &f64| n.is_finite())?;
    Some((number, word[at..].to_ascii_lowercase()))
}

fn scaled(word: &str, units: &[(&str, f64)], hint: &str) -> Result<u64, String> {
    let found = parts(word).and_then(|(n, unit)| {
        let scale = units.iter().find(|(name, _)| *name == unit)?.1;
        Some((n * scale).round()).filter(|v| *v < 9e18)
    });
    found.map(|v| v as u64).ok_or_else(|| format!("\"{word}\": {hint}"))
}

fn rate(word: &str) -> Result<u64, String> {
    let units = [("bit", 1.0), ("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)];
    let hint = if word.ends_with("bps") {
        "for tc this is bytes per second, for others bits; write bit, kbit, mbit or gbit"
    } else {
        "a rate is a number and bit, kbit, mbit or gbit, as in 100mbit"
    };
    scaled(word, &units, hint)
}

/// A time in nanoseconds, from a number and `us`, `ms` or `s`.
///
/// # Errors
/// Says how a time is written.
pub fn time(word: &str) -> Result<u64, String> {
    let units = [("us", 1e3), ("ms", 1e6), ("s", 1e9)];
    scaled(word, &units, "a time is a number and us, ms or s, as in 10ms")
}

/// Bytes, from a number and perhaps `b`, `kb` or `mb`, as tc understands them.
///
/// # Errors
/// Says how a size is written.
pub fn size(word: &str) -> Result<u64, String> {
    let k = 1024.0;
    let units =
        [("", 1.0), ("b", 1.0), ("k", k), ("kb", k), ("kib", k), ("m", k * k), ("mb", k * k), ("mib", k * k)];
    scaled(word, &units, "a size is a number of bytes, or a number and kb or mb, as in 64kb")
}

fn share(word: &str) -> Result<f64, String> {
    let share = parts(word).filter(|(n, unit)| unit == "%" && *n <= 100.0).map(|(n, _)| n / 100.0);
    share.ok_or_else(|| format!("\"{word}\": a share is a number and %, from 0% to 100%, as in 0.1%"))
}

fn ppm(word: &str) -> Result<u32, String> {
    let share = share(word)?;
    let ppm = (share * 1e6).round() as u32;
    if ppm == 0 && share > 0.0 {
        return Err(format!("\"{word}\": less than one frame in a million (0.0001%)"));
    }
    Ok(ppm)
}

fn whole<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("\"{word}\": a whole number of bytes is needed"))
}

/// The words again, as short as they can be.
pub fn tell(f: &Faults) -> String {
    let mut out = Vec::new();
    let percent = |part: f64, of: f64| format!("{}%", part * 100.0 / of);
    if f.rate_bps != 0 {
        out.push(format!(
            "rate {}",
            short(f.rate_bps, &[(1_000_000_000, "gbit"), (1_000_000, "mbit"), (1000, "kbit")], "bit")
        ));
    }
    if f.overhead_bytes != 0 {
        out.push(format!("overhead {}", f.overhead_bytes));
    }
    if f.queue_bytes != 0 {
        out.push(format!("limit {}", short(f.queue_bytes, &[(1 << 20, "mb"), (1 << 10, "kb")], "b")));
    }
    for (word, ns) in [("limit", f.queue_ns), ("delay", f.delay_ns), ("jitter", f.jitter_ns)] {
        if ns != 0 {
            out.push(format!("{word} {}", tell_time(ns)));
        }
    }
    if f.loss_ppm != 0 {
        out.push(format!("loss {}", percent(f64::from(f.loss_ppm), 1e6)));
    }
    if let Some(g) = f.loss_bursts {
        let of = [g.to_bad_ppb, g.to_good_ppb, g.loss_bad_ppb, g.loss_good_ppb];
        let shares: Vec<String> = of.iter().map(|p| percent(f64::from(*p), 1e9)).collect();
        out.push(format!("loss gemodel {}", shares.join(" ")));
    }
    if f.reorder_ppm != 0 {
        out.push(format!("reorder {} {}", percent(f64::from(f.reorder_ppm), 1e6), tell_time(f.reorder_ns)));
    }
    for (word, ppm) in [("duplicate", f.duplicate_ppm), ("corrupt", f.corrupt_ppm)] {
        if ppm != 0 {
            out.push(format!("{word} {}", percent(f64::from(ppm), 1e6)));
        }
    }
    if f.frame_bytes_max != 0 {
        out.push(format!("mtu {}", f.frame_bytes_max - 14));
    }
    if out.is_empty() { "unimpaired".to_owned() } else { out.join(" ") }
}

fn tell_time(ns: u64) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms")];
    match units.iter().find(|(scale, _)| ns.is_multiple_of(*scale)) {
        Some((scale, unit)) => format!("{}{unit}", ns / scale),
        None => format!("{}us", ns as f64 / 1e3),
    }
}

fn short(n: u64, units: &[(u64, &str)], plain: &str) -> String {
    match units.iter().find(|(scale, _)| n.is_multiple_of(*scale)) {
        Some((scale, unit)) => format!("{}{unit}", n / scale),
        None => format!("{n}{plain}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(words: &str) -> Faults {
        let mut f = Faults::default();
        read(&mut f, words).expect(words);
        f
    }

    #[test]
    fn every_word_is_read_and_told() {
        let all = "rate 100mbit overhead 24 limit 64kb delay 10ms jitter 500us loss 0.1% reorder 1% 5ms \
                   duplicate 2% corrupt 0.05% mtu 1400";
        let f = faults(all);
        let expected = Faults {
            rate_bps: 100_000_000,
            overhead_bytes: 24,
            queue_bytes: 65_536,
            queue_ns: 0,
            delay_ns: 10_000_000,
            jitter_ns: 500_000,
            loss_ppm: 1000,
            loss_bursts: None,
            reorder_ppm: 10_000,
            reorder_ns: 5_000_000,
            duplicate_ppm: 20_000,
            corrupt_ppm: 500,
            frame_bytes_max: 1414,
        };
        assert_eq!(f, expected);
        assert_eq!(faults(&tell(&f)), f);
        assert_eq!(tell(&f), all);
        assert_eq!(tell(&Faults::default()), "unimpaired");
        let g = faults("loss gemodel 1% 10% 70% 0.1% limit 50ms rate 1.5gbit");
        assert_eq!((g.queue_ns, g.rate_bps), (50_000_000, 1_500_000_000));
        assert_eq!(faults(&tell(&g)), g);
    }

    #[test]
    fn loss_has_three_forms_and_the_last_one_counts() {
        let bursts = |words| faults(words).loss_bursts.expect("bursts");
        let g = bursts("loss gemodel 1%");
        assert_eq!(
            (g.to_bad_ppb, g.to_good_ppb, g.loss_bad_ppb, g.loss_good_ppb),
            (10_000_000, 990_000_000, 1_000_000_000, 0)
        );
        assert_eq!(bursts("loss gemodel 1% 10% 70% 0.1%").loss_good_ppb, 1_000_000);
        let g = bursts("loss 1% burst 5");
        assert_eq!((g.to_good_ppb, g.to_bad_ppb), (200_000_000, 2_020_202));
        let f = faults("loss 1% burst 5 loss 2%");
        assert_eq!((f.loss_ppm, f.loss_bursts), (20_000, None));
        assert_eq!(faults("loss gemodel 1% 10% delay 1ms").delay_ns, 1_000_000);
        assert_eq!(faults("limit 50ms limit 3000").queue_ns, 0);
    }

    #[test]
    fn a_rate_alone_gets_a_queue_of_a_tenth_of_a_second() {
        let limit = |words| {
            let f = with_default_limit(faults(words));
            (f.queue_bytes, f.queue_ns)
        };
        assert_eq!(limit("rate 1mbit"), (0, 100_000_000));
        assert_eq!(limit("rate 1mbit limit 9kb"), (9216, 0));
        assert_eq!(limit("delay 1ms"), (0, 0));
    }

    #[test]
    fn directions_have_words_of_their_own() {
        let told = |words| {
            let (up, down) = read_both(words).expect(words);
            (tell(&up), tell(&down))
        };
        let both = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(told(""), both("unimpaired", "unimpaired"));
        assert_eq!(told("delay 1ms"), both("delay 1ms", "delay 1ms"));
        assert_eq!(
            told("delay 1ms up rate 1mbit limit 9kb down rate 2mbit both loss 1%"),
            both("rate 1mbit limit 9kb delay 1ms loss 1%", "rate 2mbit limit 100ms delay 1ms loss 1%")
        );
        assert!(read_both("up delay").is_err());
    }

    #[test]
    fn wrong_words_are_told_with_their_mend() {
        for (words, part) in [
            ("speed 3", "not one of rate"),
            ("rate", "needs a rate"),
            ("rate 100", "as in 100mbit"),
            ("rate 100mbps", "bytes per second"),
            ("delay 10", "us, ms or s"),
            ("delay -1ms", "us, ms or s"),
            ("loss 5", "number and %"),
            ("loss 101%", "to 100%"),
            ("loss 0.00001%", "one frame in a million"),
            ("loss 1% burst 0.1", "1 or more"),
            ("loss gemodel", "turns bad"),
            ("limit 5parsec", "64kb"),
            ("mtu x", "whole number"),
        ] {
            let e = read(&mut Faults::default(), words).expect_err(words);
            assert!(e.contains(part), "{words}: {e}");
        }
    }
}
