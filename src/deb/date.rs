//! Points in time as seconds since the Epoch, and the two texts they come in: a Release's and RFC 3339.
//!
//! UTC only, years 0 to 9999, the Gregorian calendar. Knows no clock.

/// Seconds since the Epoch of a date like `Sat, 09 Aug 2025 11:30:24 UTC`; also `GMT`, `Z` and `+0000`, as apt reads
/// them. Other zones are nothing: the repository format demands UTC.
pub fn parse_release_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let (weekday, rest) = text.trim().split_once(',')?;
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    let [day, month, year, clock, zone] = words.as_slice() else { return None };
    if !DAYS.contains(&weekday) || !matches!(*zone, "UTC" | "GMT" | "Z" | "+0000") {
        return None;
    }
    let month = MONTHS.iter().position(|name| name == month)? as i64 + 1;
    seconds([digits(year, 4..=4)?, month, digits(day, 1..=2)?], parse_clock(clock)?)
}

/// Seconds since the Epoch of a time like `2025-08-09T11:30:24Z`.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let date: Vec<&str> = date.split('-').collect();
    let [year, month, day] = date.as_slice() else { return None };
    seconds([digits(year, 4..=4)?, digits(month, 2..=2)?, digits(day, 2..=2)?], parse_clock(clock)?)
}

/// A time like `2025-08-09T11:30:24Z`; seconds outside the years 0 to 9999 are moved to the nearest end.
pub fn format_rfc3339(seconds: i64) -> String {
    let (first, last) = (days_since_epoch(0, 1, 1) * 86_400, days_since_epoch(10_000, 1, 1) * 86_400 - 1);
    let seconds = seconds.clamp(first, last);
    let (days, clock) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Guess the year from its mean length, then step to the one that holds the day.
    let mut year = 1970 + days * 400 / 146_097;
    while days_since_epoch(year, 1, 1) > days {
        year -= 1;
    }
    while days_since_epoch(year + 1, 1, 1) <= days {
        year += 1;
    }
    let month = (2..=12).take_while(|month| days_since_epoch(year, *month, 1) <= days).last().unwrap_or(1);
    let day = days - days_since_epoch(year, month, 1) + 1;
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Hour, minute and second of `11:30:24`.
fn parse_clock(text: &str) -> Option<[i64; 3]> {
    let parts: Vec<&str> = text.split(':').collect();
    let [hour, minute, second] = parts.as_slice() else { return None };
    Some([digits(hour, 1..=2)?, digits(minute, 2..=2)?, digits(second, 2..=2)?])
}

fn digits(text: &str, length: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let right = length.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    right.then(|| text.parse().ok())?
}

fn seconds([year, month, day]: [i64; 3], [hour, minute, second]: [i64; 3]) -> Option<i64> {
    let right = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        // 60 is a leap second, for which the Epoch's count has no room: it is the next minute's first.
        && (hour <= 23 && minute <= 59 && second <= 60);
    right.then(|| days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let leap_days_to = |year: i64| year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let years = (year - 1970) * 365 + leap_days_to(year - 1) - leap_days_to(1969);
    years + (1..month).map(|month| days_in_month(year, month)).sum::<i64>() + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_dates_are_those_of_the_calendar() {
        // Checked with `date -u -d … +%s`.
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 UTC", Some(0)),
            ("Tue, 29 Feb 2000 23:59:59 GMT", Some(951_868_799)),
            ("Sat,  1 Mar 2025 1:02:03 +0000", Some(1_740_790_923)),
            ("Fri, 31 Dec 1999 23:59:59 Z", Some(946_684_799)),
            ("Mon, 01 Jan 2120 00:00:00 UTC", Some(4_733_510_400)),
            ("Wed, 29 Feb 2023 00:00:00 UTC", None),
            ("Sat, 06 Sep 2025 11:30:24 CEST", None),
            ("Sat, 06 Sep 2025 11:30 UTC", None),
            ("Sat, 06 Sep 2025 24:30:00 UTC", None),
            ("06 Sep 2025 11:30:24 UTC", None),
            ("Sat, +6 Sep 2025 11:30:24 UTC", None),
            ("", None),
        ] {
            assert_eq!(parse_release_date(text), seconds, "{text}");
        }
    }

    #[test]
    fn rfc3339_round_trips() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_733_510_400, "2120-01-01T00:00:00Z"),
        ] {
            assert_eq!(format_rfc3339(seconds), text);
            assert_eq!(parse_rfc3339(text), Some(seconds));
        }
        assert_eq!(format_rfc3339(i64::MAX), "9999-12-31T23:59:59Z");
        assert_eq!(format_rfc3339(i64::MIN), "0000-01-01T00:00:00Z");
        for text in ["", "2025-13-01T00:00:00Z", "2025-1-01T00:00:00Z", "2025-01-01T00:00:00", "2025-01-00T00:00:00Z"] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }
}
