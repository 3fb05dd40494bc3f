//! The compressions that .debs and indexes come in, read with a bound on what comes out.
//!
//! Owns the choice by file name and the bound; a few kilobytes of input can stand for gigabytes, so no decoder is
//! handed out without one. Memory is bounded too: xz dictionaries to 256 MiB, zstd windows to 128 MiB.

use std::io::{self, BufRead, Read};

/// Memory that an xz decoder may take, in bytes; `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 256 << 20;

/// Largest zstd window, as a power of two; what the reference decoder accepts unasked.
const ZSTD_WINDOW_LOG: u32 = 27;

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952), members in a row allowed.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Compression {
    /// The compression that a file name's extension tells, and the name without it. A name without an extension
    /// known here is taken as not compressed.
    pub fn of_name(name: &str) -> (&str, Self) {
        [(".gz", Self::Gzip), (".xz", Self::Xz), (".zst", Self::Zstd)]
            .iter()
            .find_map(|(extension, compression)| Some((name.strip_suffix(extension)?, *compression)))
            .unwrap_or((name, Self::None))
    }

    /// A reader of what `source` decompresses to. More than `bound` bytes are an error ([`BoundExceeded`] inside an
    /// [`io::Error`]), as are truncated bytes and those that are no stream. The check sums of xz are not looked at:
    /// whoever calls this verifies `source` by its SHA-256.
    ///
    /// # Errors
    /// When a decoder cannot be set up.
    pub fn decoder<R: BufRead>(self, source: R, bound: u64) -> io::Result<Decoder<R>> {
        let inner = match self {
            Self::None => Inner::None(source),
            Self::Gzip => Inner::Gzip(flate2::bufread::MultiGzDecoder::new(source)),
            Self::Xz => {
                // Its check sums say nothing about bytes whose SHA-256 is known, and cost a tenth of the time.
                let flags = liblzma::stream::CONCATENATED | liblzma::stream::IGNORE_CHECK;
                let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, flags)?;
                Inner::Xz(liblzma::bufread::XzDecoder::new_stream(source, stream))
            }
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(source)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Inner::Zstd(decoder)
            }
        };
        Ok(Decoder { inner, bound, left: bound })
    }
}

/// More came out of a decoder than was allowed: a bomb, or an index that lies about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it unpacks to more than the {bound} bytes allowed")]
pub struct BoundExceeded {
    /// The bound in bytes.
    pub bound: u64,
}

/// Reads decompressed bytes up to a bound.
pub struct Decoder<R: BufRead> {
    inner: Inner<R>,
    bound: u64,
    left: u64,
}

enum Inner<R: BufRead> {
    None(R),
    Gzip(flate2::bufread::MultiGzDecoder<R>),
    Xz(liblzma::bufread::XzDecoder<R>),
    Zstd(zstd::Decoder<'static, R>),
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.inner {
            Inner::None(reader) => reader.read(buffer),
            Inner::Gzip(reader) => reader.read(buffer),
            Inner::Xz(reader) => reader.read(buffer),
            Inner::Zstd(reader) => reader.read(buffer),
        }?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::new(io::ErrorKind::InvalidData, BoundExceeded { bound: self.bound })),
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn compress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => bytes.to_vec(),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).expect("memory");
                encoder.finish().expect("memory")
            }
            Compression::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
                encoder.write_all(bytes).expect("memory");
                encoder.finish().expect("memory")
            }
            Compression::Zstd => zstd::encode_all(bytes, 1).expect("memory"),
        }
    }

    fn decompress(compression: Compression, bytes: &[u8], bound: u64) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        compression.decoder(bytes, bound)?.read_to_end(&mut text)?;
        Ok(text)
    }

    const ALL: [Compression; 4] = [Compression::None, Compression::Gzip, Compression::Xz, Compression::Zstd];

    #[test]
    fn every_compression_reads_back_up_to_its_bound() {
        let text = b"rolecast ".repeat(20_000);
        for compression in ALL {
            let packed = compress(compression, &text);
            assert_eq!(decompress(compression, &packed, text.len() as u64).expect("exact bound"), text);
            let error = decompress(compression, &packed, text.len() as u64 - 1).expect_err("one too few");
            let inner = error.into_inner().expect("typed").downcast::<BoundExceeded>().expect("typed");
            assert_eq!(inner.bound, text.len() as u64 - 1);
        }
    }

    #[test]
    fn truncated_and_corrupt_bytes_are_errors() {
        let text: Vec<u8> =
            (0..200_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for compression in &ALL[1..] {
            let packed = compress(*compression, &text);
            for cut in [0, 1, 5, packed.len() / 2, packed.len() - 1] {
                let result = decompress(*compression, &packed[..cut], u64::MAX);
                // No bytes at all are an empty stream to zstd; whoever reads a tar notices.
                assert!(result.is_err() || cut == 0, "{compression:?} cut at {cut}");
            }
            let mut corrupt = packed.clone();
            corrupt[3] ^= 0xff;
            assert!(decompress(*compression, &corrupt, u64::MAX).is_err(), "{compression:?}");
        }
    }

    #[test]
    fn names_tell_the_compression() {
        assert_eq!(Compression::of_name("Packages.xz"), ("Packages", Compression::Xz));
        assert_eq!(Compression::of_name("data.tar.zst"), ("data.tar", Compression::Zstd));
        assert_eq!(Compression::of_name("control.tar.gz"), ("control.tar", Compression::Gzip));
        assert_eq!(Compression::of_name("data.tar.bz2"), ("data.tar.bz2", Compression::None));
    }
}
