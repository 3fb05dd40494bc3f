//! URLs of files in archives: encoding, decoding, and showing them without secrets. Specification: RFC 3986.

/// The URL without a password in it.
pub fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = rest.find('/').unwrap_or(rest.len());
    match rest[..authority].rfind('@') {
        Some(at) => format!("{scheme}://…{}", &rest[at..]),
        None => url.to_owned(),
    }
}

/// A path of an archive as part of a URL: everything but unreserved characters and `/` percent-encoded (RFC 3986,
/// 2.3); `+` too, because object stores read it as a space.
pub fn encode(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Undoes percent-encoding; what is no valid escape stays as it is.
pub fn decode(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, digit(after.first()), digit(after.get(1))) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            _ => bytes.push(byte),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_round_trip_and_passwords_are_not_shown() {
        for (path, url) in [
            ("pool/g/gcc/libstdc++6_14.2.0-19_amd64.deb", "pool/g/gcc/libstdc%2B%2B6_14.2.0-19_amd64.deb"),
            ("a b/c%d/ü?#", "a%20b/c%25d/%C3%BC%3F%23"),
            ("~-._", "~-._"),
        ] {
            assert_eq!(encode(path), url);
            assert_eq!(decode(url), path.as_bytes());
        }
        assert_eq!(decode("100%+%zz%4"), b"100%+%zz%4");
        assert_eq!(shown("https://user:secret@host/a@b"), "https://…@host/a@b");
        assert_eq!(shown("http://host/a@b"), "http://host/a@b");
        assert_eq!(shown("file:///a@b"), "file:///a@b");
    }
}
