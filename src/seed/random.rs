//! Secrets out of nothing: passwords, keys' seeds, serial parts. From the kernel's generator (getrandom(2)), by ring.

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::report::{Diagnostic, Kind};

/// Letters and digits: need no quoting in YAML, an ini file, a URI, a shell or SQL.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Characters of a password: 190 bits.
const PASSWORD: usize = 32;

/// Random bytes.
///
/// # Errors
/// When the kernel gives none.
pub fn bytes<const COUNT: usize>() -> Result<[u8; COUNT], Diagnostic> {
    let mut bytes = [0; COUNT];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(Diagnostic::error(Kind::World, "the kernel gives no random bytes")),
    }
}

/// A password of letters and digits, each as likely as every other.
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn password() -> Result<String, Diagnostic> {
    let mut password = String::with_capacity(PASSWORD);
    loop {
        for byte in bytes::<64>()? {
            // 248 is four times 62: what is above would make the first letters likelier.
            if byte < 248 {
                password.push(char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
            }
            if password.len() == PASSWORD {
                return Ok(password);
            }
        }
    }
}

/// Random bytes in hexadecimal digits.
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn hexadecimal<const COUNT: usize>() -> Result<String, Diagnostic> {
    Ok(bytes::<COUNT>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_need_no_quoting_and_are_not_alike() {
        let (one, other) = (password().unwrap(), password().unwrap());
        assert!(one.len() == PASSWORD && one.bytes().all(|byte| ALPHABET.contains(&byte)), "{one}");
        assert_ne!(one, other);
        let secret = hexadecimal::<16>().unwrap();
        assert!(secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()), "{secret}");
    }
}
