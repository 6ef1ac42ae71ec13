//! States, and how a connection ends.

/// States of RFC 9293 3.3.2. LISTEN is an entry in a list of its own, TIME-WAIT a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// No connection.
    #[default]
    Closed,
    /// We have sent a SYN.
    SynSent,
    /// Both have sent a SYN; ours is not acknowledged.
    SynReceived,
    /// Open.
    Established,
    /// We have sent a FIN, not acknowledged.
    FinWait1,
    /// We have sent a FIN, acknowledged; the peer still sends.
    FinWait2,
    /// The peer has sent a FIN; we still send.
    CloseWait,
    /// Both have sent a FIN at once; ours is not acknowledged.
    Closing,
    /// The peer closed first, then we; our FIN is not acknowledged.
    LastAck,
}

impl State {
    /// All of them.
    pub const ALL: [State; 9] = [
        State::Closed,
        State::SynSent,
        State::SynReceived,
        State::Established,
        State::FinWait1,
        State::FinWait2,
        State::CloseWait,
        State::Closing,
        State::LastAck,
    ];

    /// Whether the application may still queue data.
    pub fn can_send(self) -> bool {
        matches!(self, State::Established | State::CloseWait | State::SynSent | State::SynReceived)
    }

    /// Whether data from the peer is still taken.
    pub fn can_receive(self) -> bool {
        matches!(self, State::Established | State::FinWait1 | State::FinWait2)
    }

    /// The name as `ss` prints it.
    pub fn name(self) -> &'static str {
        match self {
            State::Closed => "CLOSED",
            State::SynSent => "SYN-SENT",
            State::SynReceived => "SYN-RECV",
            State::Established => "ESTAB",
            State::FinWait1 => "FIN-WAIT-1",
            State::FinWait2 => "FIN-WAIT-2",
            State::CloseWait => "CLOSE-WAIT",
            State::Closing => "CLOSING",
            State::LastAck => "LAST-ACK",
        }
    }
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum CloseReason {
    /// In order: both sides have closed, and all was acknowledged.
    #[default]
    Done,
    /// The peer reset it.
    Reset,
    /// The peer refused it.
    Refused,
    /// The peer does not answer.
    TimedOut,
    /// The network says that there is no way.
    Unreachable,
}
