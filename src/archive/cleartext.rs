//! The cleartext signature framework: an InRelease taken apart into the text that is signed and the signatures over it.
//!
//! Decides nothing about signatures. Strict where the specification leaves room: nothing may stand before the message,
//! between its parts or after it, so that no reader can take unsigned text for signed. Linear in its input.
//! Specification: RFC 9580 section 7.

/// A clear-signed message taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClearSigned {
    /// The signed text: dash escapes undone, trailing blanks of each line cut, lines end in LF. The last line's end
    /// is not part of what is signed; it is here, so that the text ends like a file.
    pub text: String,
    /// The armored signatures, from `-----BEGIN` to `-----END`.
    pub armor: String,
}

/// Why bytes are no clear-signed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CleartextError {
    /// Bytes that are not UTF-8.
    #[error("it is not a text in UTF-8")]
    NotText,
    /// Nothing is signed here.
    #[error("it does not begin with `{BEGIN}`")]
    NotSigned,
    /// A header other than `Hash`, or no empty line after the headers.
    #[error("line {0}: only `Hash:` headers and an empty line may stand before the signed text")]
    Header(usize),
    /// A line that begins with a dash and is not escaped.
    #[error("line {0}: a line that begins with `-` is not escaped")]
    Dash(usize),
    /// The message ends without a signature.
    #[error("it ends before its signature does: it was cut")]
    Cut,
    /// Something follows the signature.
    #[error("line {0}: text follows the signature, which vouches for nothing there")]
    Trailing(usize),
}

const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END: &str = "-----END PGP SIGNATURE-----";

/// Takes a message apart.
///
/// # Errors
/// As [`CleartextError`] says; lines count from 1.
pub fn parse(bytes: &[u8]) -> Result<ClearSigned, CleartextError> {
    let message = std::str::from_utf8(bytes).map_err(|_| CleartextError::NotText)?;
    let mut lines = message.lines().map(|line| line.trim_end_matches([' ', '\t', '\r'])).enumerate();
    if lines.next().is_none_or(|(_, line)| line != BEGIN) {
        return Err(CleartextError::NotSigned);
    }
    loop {
        match lines.next() {
            Some((_, "")) => break,
            Some((_, line)) if line.starts_with("Hash: ") => {}
            Some((index, _)) => return Err(CleartextError::Header(index + 1)),
            None => return Err(CleartextError::Cut),
        }
    }
    let mut text = String::with_capacity(message.len());
    loop {
        match lines.next() {
            Some((_, SIGNATURE)) => break,
            Some((index, line)) => {
                let plain = line.strip_prefix("- ").unwrap_or(line);
                if line.starts_with('-') && plain.len() == line.len() && line != "-" {
                    return Err(CleartextError::Dash(index + 1));
                }
                text.push_str(if line == "-" { "" } else { plain });
                text.push('\n');
            }
            None => return Err(CleartextError::Cut),
        }
    }
    let mut armor = format!("{SIGNATURE}\n");
    loop {
        let (_, line) = lines.next().ok_or(CleartextError::Cut)?;
        armor.push_str(line);
        armor.push('\n');
        if line == END {
            break;
        }
    }
    match lines.find(|(_, line)| !line.is_empty()) {
        Some((index, _)) => Err(CleartextError::Trailing(index + 1)),
        None => Ok(ClearSigned { text, armor }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> String {
        format!("{BEGIN}\nHash: SHA512\n\n{body}{SIGNATURE}\n\nabc=\n{END}\n")
    }

    #[test]
    fn text_and_signature_come_apart() {
        let parsed = parse(message("A: 1 \t\r\n- -----BEGIN\n-\n\nB: 2\n").as_bytes()).unwrap();
        assert_eq!(parsed.text, "A: 1\n-----BEGIN\n\n\nB: 2\n");
        assert_eq!(parsed.armor, format!("{SIGNATURE}\n\nabc=\n{END}\n"));
    }

    #[test]
    fn unsigned_text_has_no_place() {
        let good = message("A: 1\n");
        let lines = good.lines().count();
        for (text, error) in [
            (format!("A: 0\n{good}"), CleartextError::NotSigned),
            (format!("{good}\n\nA: 2\n"), CleartextError::Trailing(lines + 3)),
            (good.replace("Hash: SHA512\n", "Hash: SHA512\nA: 0\n"), CleartextError::Header(3)),
            (good.replace("SHA512\n\n", "SHA512\n"), CleartextError::Header(3)),
            (good.replace("A: 1", "-----BEGIN PGP SIGNED MESSAGE-----"), CleartextError::Dash(4)),
            (good[..good.len() - 30].to_owned(), CleartextError::Cut),
            (good[..54].to_owned(), CleartextError::Cut),
            ("<html>".to_owned(), CleartextError::NotSigned),
            (String::new(), CleartextError::NotSigned),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(error), "{text}");
        }
        assert_eq!(parse(b"-----BEGIN \xff"), Err(CleartextError::NotText));
    }
}
