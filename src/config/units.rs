//! Values with their unit: durations (`"250ms"`) and sizes (`"4GiB"`).
//!
//! A unit is always written out. A bare number is refused, because nobody can tell whether `timeout = 30` once
//! meant seconds.

use std::time::Duration;

/// Reads a duration: a whole number and one of ms, s, m, h, d.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    const MEND: &str = "write a whole number and a unit: ms, s, m, h or d, as in \"30s\"";
    let (number, unit) = split(text).ok_or(MEND)?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(MEND),
    };
    let total_ms = number.checked_mul(unit_ms).ok_or("write a shorter time")?;
    Ok(Duration::from_millis(total_ms))
}

/// Reads a size in bytes: a whole number and one of B, KiB, MiB, GiB, TiB. Decimal units (`"4GB"`) are refused:
/// half of all readers take them for the binary ones.
pub fn size(text: &str) -> Result<u64, &'static str> {
    const MEND: &str = "write a whole number and a unit: B, KiB, MiB, GiB or TiB, as in \"4GiB\"";
    let (number, unit) = split(text).ok_or(MEND)?;
    let unit_bytes: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(MEND),
    };
    number.checked_mul(unit_bytes).ok_or("write a smaller size")
}

/// Reads a share: a whole number up to 100 and a percent sign.
pub fn percent(text: &str) -> Result<u8, &'static str> {
    const MEND: &str = "write a whole number from 0 to 100 and %, as in \"20%\"";
    match split(text) {
        Some((number @ 0..=100, "%")) => Ok(number as u8),
        _ => Err(MEND),
    }
}

/// A duration as a person would write it, in the largest unit that divides it.
pub fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let (unit_ms, name) =
        units.into_iter().find(|(u, _)| ms > 0 && ms.is_multiple_of(*u)).unwrap_or((1, "ms"));
    format!("{}{name}", ms / unit_ms)
}

/// A size as a person would write it, in the largest unit that divides it.
pub fn show_size(bytes: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let (unit, name) =
        units.into_iter().find(|(u, _)| bytes > 0 && bytes.is_multiple_of(*u)).unwrap_or((1, "B"));
    format!("{}{name}", bytes / unit)
}

/// Number and unit; one space between them is fine.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.strip_prefix(' ').unwrap_or(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let good =
            [("250ms", 250), ("0s", 0), ("5s", 5_000), ("5 s", 5_000), ("2m", 120_000), ("1h", 3_600_000)];
        for (text, ms) in good {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "5S",
            "-5s",
            "1.5s",
            "5  s",
            " 5s",
            "5s ",
            "5 sec",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        let good =
            [("0B", 0), ("16KiB", 16 << 10), ("64 MiB", 64 << 20), ("4GiB", 4 << 30), ("1TiB", 1 << 40)];
        for (text, bytes) in good {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "4", "4GB", "4G", "4gib", "GiB", "-1B", "0x10B", "18446744073709551615TiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shown_values_read_back() {
        for ms in [0, 1, 999, 1_000, 1_500, 60_000, 90_000, 3_600_000, 86_400_000 * 3] {
            let value = Duration::from_millis(ms);
            assert_eq!(duration(&show_duration(value)), Ok(value));
        }
        for bytes in [0, 1, 1023, 1024, 1536, 1 << 20, 3 << 30, 1 << 40, u64::MAX] {
            assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }
    }
}
