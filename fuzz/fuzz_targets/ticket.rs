//! A ticket of a stranger: it may be refused; what is read is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rolecast::ticket::Ticket;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(ticket) = Ticket::read(bytes) {
        let again = Ticket::read(ticket.write().as_bytes());
        assert_eq!(again.ok().as_ref(), Some(&ticket));
    }
});
