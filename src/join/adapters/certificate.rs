//! How long a certificate is valid: the one field of X.509 (RFC 5280) that the join reads itself.
//!
//! Walks DER without trusting a length in it.

/// The end of a certificate's validity, seconds since the Epoch; none when it is no certificate.
pub fn not_after(der: &[u8]) -> Option<i64> {
    let (_, certificate, _) = element(der)?;
    let (_, mut fields, _) = element(certificate)?;
    // version [0] (may be missing), serialNumber, signature, issuer, validity.
    let (first, _, rest) = element(fields)?;
    if first == 0xa0 {
        fields = rest;
    }
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (_, validity, _) = element(fields)?;
    let (_, _, after_first) = element(validity)?;
    let (kind, time, _) = element(after_first)?;
    let text = std::str::from_utf8(time).ok()?;
    match kind {
        // UTCTime: years 1950 to 2049.
        0x17 => {
            let year: i64 = text.get(..2)?.parse().ok()?;
            epoch(if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        0x18 => epoch(text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => None,
    }
}

/// Tag, content and what follows of the first DER element.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Seconds since the Epoch of `MMDDhhmmssZ` in a year of the Gregorian calendar.
fn epoch(year: i64, rest: &str) -> Option<i64> {
    let digits = rest.strip_suffix('Z').filter(|digits| digits.len() == 10)?;
    let pair = |index: usize| digits.get(index..index + 2)?.parse::<i64>().ok();
    let (month, day, hour, minute, second) = (pair(0)?, pair(2)?, pair(4)?, pair(6)?, pair(8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1 March of the year 0, when the leap day is the year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (year, rest, expected) in [
            (1970, "0101000000Z", Some(0)),
            (2000, "0229235959Z", Some(951_868_799)),
            (2026, "1124210000Z", Some(1_795_554_000)),
            (2026, "1324210000Z", None),
            (2026, "1124210000", None),
            (2026, "11242100é0Z", None),
        ] {
            assert_eq!(epoch(year, rest), expected, "{year} {rest}");
        }
    }

    #[test]
    fn the_end_of_validity_is_found() {
        let time = |text: &[u8]| [&[0x17, 13][..], text].concat();
        let sequence = |content: &[u8]| [&[0x30, u8::try_from(content.len()).unwrap()][..], content].concat();
        let validity = sequence(&[time(b"260101000000Z"), time(b"260102000000Z")].concat());
        let fields = [&[0xa0, 3, 2, 1, 2, 2, 1, 9, 0x30, 0, 0x30, 0][..], &validity].concat();
        let certificate = sequence(&sequence(&fields));
        assert_eq!(not_after(&certificate), Some(1_767_312_000));
        // Cut anywhere it is none, and never a panic.
        for end in 0..certificate.len() {
            assert_eq!(not_after(&certificate[..end]), None);
        }
        assert_eq!(not_after(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(not_after(&[0x30; 64]), None);
    }
}
