//! What is said of a connection by one bit each: events for its owner, and notes of the engine.

macro_rules! bitset {
    ($(#[$meta:meta])* $name:ident: $ty:ty { $($(#[$doc:meta])* $id:ident = $bit:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
        pub struct $name(pub $ty);

        impl $name {
            $($(#[$doc])* pub const $id: $name = $name(1 << $bit);)*

            /// Whether any of `other` is set.
            #[inline]
            pub const fn has(self, other: $name) -> bool {
                self.0 & other.0 != 0
            }
            /// Sets `other`.
            #[inline]
            pub const fn set(&mut self, other: $name) {
                self.0 |= other.0;
            }
            /// Clears `other`.
            #[inline]
            pub const fn clear(&mut self, other: $name) {
                self.0 &= !other.0;
            }
        }
    };
}

bitset! {
    /// What has happened to a connection since its owner last looked.
    Events: u16 {
        /// A client's handshake is done.
        ACCEPTED = 0;
        /// Our handshake is done.
        CONNECTED = 1;
        /// There is data to read.
        READABLE = 2;
        /// The peer has acknowledged data, or room for more was found.
        WRITABLE = 3;
        /// The peer will send no more (after what can still be read).
        FIN = 4;
        /// The connection is over; the owner must release it.
        CLOSED = 5;
        /// The owner's timer has run out.
        TIMEOUT = 6;
        /// Bytes that were let go have to be sent again (`Tcp::missing`).
        MISSING = 7;
    }
}

bitset! {
    /// The engine's own notes.
    Flags: u32 {
        /// In the list of connections with events.
        IN_READY = 0;
        /// In the list of connections with something to send.
        IN_OUTPUT = 1;
        /// Release as soon as no list holds it.
        DEAD = 2;
        /// The owner has gone: the engine finishes and releases by itself.
        ORPHAN = 3;
        /// We opened it.
        ACTIVE = 4;
        /// `mac` is the peer's.
        HAS_MAC = 5;
        /// Send an ACK with this pass.
        ACK_NOW = 6;
        /// Send a SYN or SYN-ACK with this pass.
        SYN_NOW = 7;
        /// The next segment that was lost goes out whatever the window is: recovery has just begun.
        REXMIT_NOW = 8;
        /// The owner will queue no more: FIN follows the data.
        FIN_QUEUED = 9;
        /// Send a probe for a lost tail (RFC 8985 7.3).
        TAIL_PROBE_NOW = 10;
        /// The RTT of our SYN is being measured: it was sent once.
        TIMING = 11;
        /// The rexmit timer is the persist timer: the peer's window is closed.
        PERSIST = 12;
        /// Send a probe (keep-alive, or into a closed window): one byte before SND.UNA.
        PROBE_NOW = 13;
        /// The peer's FIN has been received out of order, at `fin_seq`.
        FIN_PENDING = 14;
        /// The peer's FIN has been taken.
        FIN_TAKEN = 15;
        /// Both sides scale their windows.
        SCALED = 16;
        /// Counted among the half-open.
        HALF_OPEN = 17;
        /// In the flow table.
        HASHED = 19;
        /// Both sides understand SACK (RFC 2018).
        SACK_OK = 20;
        /// Every segment carries timestamps (RFC 7323).
        TIMESTAMPS = 21;
        /// Both sides understand ECN (RFC 3168).
        ECN = 22;
        /// A congestion mark has come: ACKs say so, until the peer says that it has heard.
        ECN_ECHO = 23;
        /// The next new data says that our window has come down.
        CWR_NEXT = 24;
        /// The segment that is being built is new data.
        NEW_DATA = 25;
    }
}
