//! Blocks that two files share, on file systems that can (XFS, btrfs): written to once, by whichever came first.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd as _;

/// What both ends of a shared range are multiples of: the blocks of nearly every file system.
pub const BLOCK: u64 = 4096;

/// Makes `to` have from byte `at` what `from` has in `range`, in the same blocks until one of the two is written
/// (ioctl_ficlonerange(2)).
///
/// # Errors
/// Where the file system cannot, or the files are on two.
#[expect(unsafe_code, reason = "rustix shares whole files only")]
pub fn share(from: &File, range: &Range<u64>, to: &File, at: u64) -> io::Result<()> {
    let wanted = libc::file_clone_range {
        src_fd: from.as_raw_fd().into(),
        src_offset: range.start,
        src_length: range.end - range.start,
        dest_offset: at,
    };
    // SAFETY: the kernel reads the structure while the call lasts, and both files are open as long.
    match unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONERANGE, &raw const wanted) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
