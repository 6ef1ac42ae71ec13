//! HTTP dates (RFC 9110 5.6.7): written in one form, read in three.

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// 9999-12-31 23:59:59: a year has four digits.
const UNIX_S_MAX: u64 = 253_402_300_799;

/// `Sun, 06 Nov 1994 08:49:37 GMT`. Beyond the year 9999 it stays at its end.
pub fn format(unix_s: u64) -> [u8; 29] {
    let unix_s = unix_s.min(UNIX_S_MAX);
    let days = unix_s / 86_400;
    let second = unix_s % 86_400;
    let (year, month, day) = date_of(days);
    let mut out = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    out[..3].copy_from_slice(DAYS[(days % 7) as usize]);
    two_digits(&mut out, 5, day);
    out[8..11].copy_from_slice(MONTHS[(month - 1) as usize]);
    two_digits(&mut out, 12, year / 100);
    two_digits(&mut out, 14, year % 100);
    two_digits(&mut out, 17, second / 3600);
    two_digits(&mut out, 20, second / 60 % 60);
    two_digits(&mut out, 23, second % 60);
    out
}

/// Unix seconds of an IMF-fixdate, an RFC 850 date or an asctime date. Dates before 1970 are none. `now_unix_s`
/// decides the century of a two-digit year: never more than 50 years ahead.
pub fn parse(text: &[u8], now_unix_s: u64) -> Option<u64> {
    let comma = text.iter().position(|&b| b == b',');
    match (comma, text.len()) {
        (Some(3), 29) => imf_fixdate(text),
        (Some(6..=9), _) => rfc850(text, now_unix_s),
        (None, 24) => asctime(text),
        _ => None,
    }
}

/// The same whatever the case of its letters, as caches are to read dates (RFC 9111 4.2).
pub fn parse_any_case(text: &[u8], now_unix_s: u64) -> Option<u64> {
    let mut room = [0; 40];
    let usual = room.get_mut(..text.len())?;
    usual.copy_from_slice(text);
    let mut inside = false;
    for b in usual.iter_mut() {
        *b = if inside { b.to_ascii_lowercase() } else { b.to_ascii_uppercase() };
        inside = b.is_ascii_alphabetic();
    }
    if usual.ends_with(b" Gmt") {
        usual[text.len() - 3..].copy_from_slice(b"GMT");
    }
    parse(usual, now_unix_s)
}

fn imf_fixdate(text: &[u8]) -> Option<u64> {
    if !DAYS.iter().any(|day| day[..] == text[..3]) || !fits(text, 3, b", ") || !fits(text, 25, b" GMT") {
        return None;
    }
    if !fits(text, 7, b" ") || !fits(text, 11, b" ") || !fits(text, 16, b" ") {
        return None;
    }
    let year = number(text, 12, 4)?;
    unix_seconds(year, month(text, 8)?, number(text, 5, 2)?, clock(text, 17)?)
}

fn rfc850(text: &[u8], now_unix_s: u64) -> Option<u64> {
    const LONG: [&[u8]; 7] =
        [b"Monday", b"Tuesday", b"Wednesday", b"Thursday", b"Friday", b"Saturday", b"Sunday"];
    let comma = text.iter().position(|&b| b == b',')?;
    let (name, rest) = text.split_at(comma);
    // `, 06-Nov-94 08:49:37 GMT`
    if !LONG.contains(&name) || rest.len() != 24 || !fits(rest, 0, b", ") || !fits(rest, 20, b" GMT") {
        return None;
    }
    if !fits(rest, 4, b"-") || !fits(rest, 8, b"-") || !fits(rest, 11, b" ") {
        return None;
    }
    let (this_year, _, _) = date_of(now_unix_s.min(UNIX_S_MAX) / 86_400);
    let mut year = this_year - this_year % 100 + number(rest, 9, 2)?;
    if year > this_year + 50 {
        year -= 100;
    }
    unix_seconds(year, month(rest, 5)?, number(rest, 2, 2)?, clock(rest, 12)?)
}

fn asctime(text: &[u8]) -> Option<u64> {
    // `Sun Nov  6 08:49:37 1994`
    if !DAYS.iter().any(|day| day[..] == text[..3]) {
        return None;
    }
    if !fits(text, 3, b" ") || !fits(text, 7, b" ") || !fits(text, 10, b" ") || !fits(text, 19, b" ") {
        return None;
    }
    let day = if text[8] == b' ' { number(text, 9, 1)? } else { number(text, 8, 2)? };
    unix_seconds(number(text, 20, 4)?, month(text, 4)?, day, clock(text, 11)?)
}

fn fits(text: &[u8], at: usize, part: &[u8]) -> bool {
    text.get(at..at + part.len()) == Some(part)
}

fn number(text: &[u8], at: usize, digits: usize) -> Option<u64> {
    super::bytes::decimal(text.get(at..at + digits)?)
}

/// The number of the month whose name is at `at`.
pub(crate) fn month(text: &[u8], at: usize) -> Option<u64> {
    let name = text.get(at..at + 3)?;
    MONTHS.iter().position(|m| m[..] == *name).map(|index| index as u64 + 1)
}

/// `08:49:37`; a leap second counts as the one before it.
fn clock(text: &[u8], at: usize) -> Option<u64> {
    if !fits(text, at + 2, b":") || !fits(text, at + 5, b":") {
        return None;
    }
    let (hour, minute, second) = (number(text, at, 2)?, number(text, at + 3, 2)?, number(text, at + 6, 2)?);
    (hour < 24 && minute < 60 && second <= 60).then(|| hour * 3600 + minute * 60 + second.min(59))
}

fn unix_seconds(year: u64, month: u64, day: u64, second: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_in_month = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if year < 1970 || day == 0 || day > days_in_month {
        return None;
    }
    // Days since 1970-01-01, the year beginning in March so that the leap day is its last (H. Hinnant,
    // "chrono-compatible low-level date algorithms").
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + second)
}

/// Year, month and day of a day since 1970-01-01; the inverse of the above.
fn date_of(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * m + 2) / 5 + 1;
    let month = if m < 10 { m + 3 } else { m - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn two_digits(out: &mut [u8; 29], at: usize, n: u64) {
    out[at] = b'0' + (n / 10 % 10) as u8;
    out[at + 1] = b'0' + (n % 10) as u8;
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000;

    #[test]
    fn the_three_forms_of_the_rfc() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(parse(text.as_bytes(), NOW), Some(784_111_777), "{text}");
        }
        assert_eq!(&format(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&format(u64::MAX), b"Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn caches_read_dates_in_any_case() {
        for text in
            ["sun, 06 NOV 1994 08:49:37 gmt", "SUNDAY, 06-nov-94 08:49:37 Gmt", "sUN nOV  6 08:49:37 1994"]
        {
            assert_eq!(parse_any_case(text.as_bytes(), NOW), Some(784_111_777), "{text}");
            assert_eq!(parse(text.as_bytes(), NOW), None, "{text}");
        }
        assert_eq!(parse_any_case(b"sun, 06 nov 1994 08:49:37 est", NOW), None);
        assert_eq!(parse_any_case(&[b' '; 41], NOW), None);
    }

    #[test]
    fn what_is_formatted_is_parsed() {
        // A prime step of about nine days hits every month, weekday and leap year.
        for unix_s in (0..=UNIX_S_MAX).step_by(777_767_777).chain((0..4_102_444_800).step_by(777_781)) {
            assert_eq!(parse(&format(unix_s), NOW), Some(unix_s));
        }
    }

    #[test]
    fn what_is_not_a_date() {
        let bad = [
            "",
            "0",
            "-1",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 29 Feb 1900 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Xyz, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
        ];
        for text in bad {
            assert_eq!(parse(text.as_bytes(), NOW), None, "{text}");
        }
    }
}
