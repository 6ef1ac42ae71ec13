//! What a core's engine is configured with.

use hugepages::Limits;

use super::cookies::{CookieSecrets, CookieUse};
use super::tuning::Congestion;

/// What a connection may be configured with.
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// Secrets for the flow table's hash, ISNs and port choice.
    pub keys: [u64; 4],
    /// Memory that one connection may hold on the receive side, by true size.
    pub receive_budget_bytes: u32,
    /// Payload that one connection may hold on the receive side when its owner takes it fast, where the receive pool is
    /// large enough.
    pub receive_max_bytes: u32,
    /// Silence before a keep-alive probe, where the owner asked for them.
    pub keep_alive_ns: u64,
    /// Delay of an ACK that nothing hurries (RFC 9293 3.8.6.3: below 0.5 s).
    pub ack_delay_ns: u64,
    /// Full segments that are acknowledged one by one at the start of a connection, as the peer's slow start lives on ACKs.
    pub quick_acks: u8,
    /// Congestion control of connections that nothing else was said of.
    pub congestion: Congestion,
    /// Our window scale (RFC 7323); with 7, windows of up to 8 MiB.
    pub window_scale: u8,
    /// The most that we announce as our MSS, and send: below what the interface could, for paths that are narrower.
    pub mss_max: u16,
    /// When SYNs are answered by cookies.
    pub cookies: CookieUse,
    /// Secrets of cookies that other nodes have too; `None`: our own.
    pub cookie_secrets: Option<CookieSecrets>,
    /// Unix time at our clock's start, in milliseconds: for nodes that share secrets, and for those that begin again with
    /// the same ones: their initial sequence numbers and timestamps go on where they were.
    pub epoch_ms: u64,
    /// Explicit congestion notification.
    pub ecn: EcnUse,
    /// Each segment is looked at closely, the usual ones too: for tests, which compare.
    pub looks_closely: bool,
}

/// When a connection uses ECN (RFC 3168).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EcnUse {
    /// Never.
    Never,
    /// When the peer asks for it, as Linux does.
    #[default]
    WhenAsked,
    /// We ask for it too.
    Always,
}

impl EcnUse {
    pub(super) fn answers(self) -> bool {
        self != EcnUse::Never
    }
}

impl TcpConfig {
    /// Defaults, with these secrets.
    pub fn new(keys: [u64; 4], limits: &Limits) -> TcpConfig {
        TcpConfig {
            keys,
            receive_budget_bytes: limits.request_budget_bytes,
            receive_max_bytes: 6 << 20,
            keep_alive_ns: 60_000_000_000,
            ack_delay_ns: 40_000_000,
            quick_acks: 16,
            congestion: Congestion::default(),
            window_scale: 7,
            mss_max: u16::MAX,
            cookies: CookieUse::default(),
            cookie_secrets: None,
            epoch_ms: 0,
            ecn: EcnUse::default(),
            looks_closely: false,
        }
    }
}
