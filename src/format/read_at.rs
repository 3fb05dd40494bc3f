//! Positioned reading, for the formats' readers.
//!
//! A reader does not own what it reads: it asks for ranges of an image in memory, of an open file, or of a partition
//! inside either. It never reads a whole image.

use std::fs::File;
use std::io;

/// Something whose bytes can be read at any place.
pub trait ReadAt {
    /// Fills `buffer` with the bytes from `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the bytes end before the buffer is full; else the medium's own.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let bytes = start.and_then(|start| self.get(start..)?.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_exact_at(offset, buffer)
    }
}

impl ReadAt for File {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

/// A run of bytes of something larger, such as a partition of a disk.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a, R: ?Sized> {
    whole: &'a R,
    offset: u64,
    length: u64,
}

impl<'a, R: ReadAt + ?Sized> Window<'a, R> {
    /// The `length` bytes of `whole` from `offset`.
    pub fn new(whole: &'a R, offset: u64, length: u64) -> Self {
        Self { whole, offset, length }
    }
}

impl<R: ReadAt + ?Sized> ReadAt for Window<'_, R> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.length);
        let start = self.offset.checked_add(offset).filter(|_| end.is_some());
        self.whole.read_exact_at(start.ok_or(io::ErrorKind::UnexpectedEof)?, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_does_not_show_what_lies_beside_it() {
        let whole = b"0123456789".to_vec();
        let window = Window::new(&whole, 2, 4);
        let mut buffer = [0; 3];
        window.read_exact_at(1, &mut buffer).unwrap();
        assert_eq!(&buffer, b"345");
        for offset in [2, 5, 9, u64::MAX] {
            assert_eq!(window.read_exact_at(offset, &mut buffer).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
