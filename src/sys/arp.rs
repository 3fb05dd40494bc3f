//! Whether somebody else has an address: the ARP probe of RFC 5227.
//!
//! Asks the wire and waits a moment; our own kernel does not answer our own broadcast, so what answers is another
//! machine.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// An ARP packet for Ethernet and IPv4 (RFC 826), without the Ethernet header.
const PACKET: usize = 28;

/// What is asked on which card.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// The card's number.
    pub interface: u32,
    /// The card's link-layer address.
    pub own: [u8; 6],
    /// The address that is asked for.
    pub address: Ipv4Addr,
}

impl Probe {
    /// The link-layer address of another machine that answers for the address within `patience`.
    ///
    /// # Errors
    /// When the kernel does not let this process speak ARP (CAP_NET_RAW), or the card is down.
    #[expect(unsafe_code, reason = "packet(7) sockets have no safe interface among the crates at hand")]
    pub fn ask(&self, patience: Duration) -> io::Result<Option<[u8; 6]>> {
        let protocol = (libc::ETH_P_ARP as u16).to_be();
        // SAFETY: socket(2) takes no pointer.
        let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, i32::from(protocol)) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just opened and is nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        // SAFETY: sockaddr_ll is plain numbers, for which zero is a value.
        let mut place: libc::sockaddr_ll = unsafe { zeroed() };
        place.sll_family = libc::AF_PACKET as u16;
        place.sll_protocol = protocol;
        place.sll_ifindex = i32::try_from(self.interface).map_err(io::Error::other)?;
        let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the pointer and the size are those of one live sockaddr_ll.
        if unsafe { libc::bind(socket.as_raw_fd(), (&raw const place).cast(), size) } < 0 {
            return Err(io::Error::last_os_error());
        }
        place.sll_halen = 6;
        place.sll_addr[..6].copy_from_slice(&[0xff; 6]);
        let question = self.question();
        // SAFETY: both buffers live through the call and are as long as said.
        let sent = unsafe {
            let (at, to) = (question.as_ptr().cast(), (&raw const place).cast());
            libc::sendto(socket.as_raw_fd(), at, PACKET, 0, to, size)
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now()).as_millis().min(10_000) as i32;
            let mut wait = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd, as said.
            match unsafe { libc::poll(&raw mut wait, 1, left) } {
                0 => return Ok(None),
                count if count < 0 => return Err(io::Error::last_os_error()),
                _ => {}
            }
            let mut answer = [0_u8; PACKET];
            // SAFETY: the buffer is as long as said.
            let got = unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), PACKET, libc::MSG_DONTWAIT) };
            if got == PACKET as isize
                && let Some(other) = self.conflict(&answer)
            {
                return Ok(Some(other));
            }
            if left == 0 {
                return Ok(None);
            }
        }
    }

    /// The probe: a request whose sender's protocol address is zero, so that nobody learns from it.
    fn question(&self) -> [u8; PACKET] {
        let mut packet = [0; PACKET];
        packet[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
        packet[8..14].copy_from_slice(&self.own);
        packet[24..28].copy_from_slice(&self.address.octets());
        packet
    }

    /// The other machine, when a packet shows that it uses the address (RFC 5227, section 2.1.1).
    fn conflict(&self, packet: &[u8; PACKET]) -> Option<[u8; 6]> {
        let sender: [u8; 6] = packet[8..14].try_into().ok()?;
        let ethernet = packet[..6] == [0, 1, 8, 0, 6, 4];
        let uses = packet[14..18] == self.address.octets();
        (ethernet && uses && sender != self.own && sender != [0; 6]).then_some(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn packet(sender: [u8; 6], address: [u8; 4]) -> [u8; PACKET] {
        let mut packet = [0; PACKET];
        packet[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 2]);
        packet[8..14].copy_from_slice(&sender);
        packet[14..18].copy_from_slice(&address);
        packet
    }

    #[test]
    fn only_another_machine_with_this_address_is_a_conflict() {
        let probe = Probe { interface: 1, own: OWN, address: Ipv4Addr::new(10, 0, 0, 1) };
        assert_eq!(probe.conflict(&packet(OTHER, [10, 0, 0, 1])), Some(OTHER));
        for harmless in [packet(OWN, [10, 0, 0, 1]), packet(OTHER, [10, 0, 0, 2]), packet([0; 6], [10, 0, 0, 1])] {
            assert_eq!(probe.conflict(&harmless), None);
        }
        assert_eq!(probe.conflict(&probe.question()), None);
        assert_eq!(probe.conflict(&[0xff; PACKET]), None);
    }
}
