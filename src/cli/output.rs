//! The two streams. The only place that writes to them.

use std::io::{self, Write as _};

/// Writes to standard output.
///
/// # Errors
/// When it cannot be written, e.g. because the reader is gone.
pub fn out(text: &str) -> io::Result<()> {
    let mut stream = io::stdout().lock();
    stream.write_all(text.as_bytes())?;
    stream.flush()
}

/// Writes to standard error; there is nowhere to complain when that fails.
pub fn err(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Bytes for people: `279.4 MB`, in units of 1000.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_readable() {
        let cases = [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (279_400_000, "279.4 MB")];
        for (bytes, text) in cases {
            assert_eq!(super::size(bytes), text);
        }
    }
}
