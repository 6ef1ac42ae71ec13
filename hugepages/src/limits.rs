//! The one value that fixes every pool of a core.

/// How many of everything one core has. Every table and queue of the node takes its bound from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Frames that can be received and held (out of order, unread, or on their way to a client).
    pub rx_cells: u32,
    /// Cells of `rx_cells` that no flow may hold: what is left so that ACKs and SYNs still get in.
    pub rx_reserve: u32,
    /// Cells for bytes that L7 writes: heads, chunk framing, gathered heads, error pages.
    pub payload_cells: u32,
    /// Cells for heads that are long, or that came in several segments.
    pub head_cells: u32,
    /// Header buffers: one per segment that is built and not yet sent.
    pub header_cells: u32,
    /// Connections: one control block each.
    pub flows: u32,
    /// Connections whose handshake is not done, of `flows`.
    pub half_open: u32,
    /// TIME-WAIT records.
    pub time_wait: u32,
    /// Pieces of data queued to be sent: one record for each retained view.
    pub send_records: u32,
    /// Segments sent and not acknowledged: one record each.
    pub segments: u32,
    /// Requests under way.
    pub http_contexts: u32,
    /// Connections with TLS; 0 where there is none.
    pub tls_connections: u32,
    /// Of those, the ones that a source may have; 0: as many as there are, and nothing is kept to count them.
    pub tls_per_source: u32,
    /// Of those, the ones whose AEAD contexts are kept ready.
    pub tls_contexts: u32,
    /// TLS handshakes under way.
    pub tls_handshakes: u32,
    /// Cells for TLS records that are longer than a payload cell.
    pub record_cells: u32,
    /// Neighbours (ARP and ND).
    pub neighbours: u32,
    /// Bytes, by true size, that one request may hold in each direction.
    pub request_budget_bytes: u32,
}

impl Limits {
    /// Splits `bytes` of one core's memory over the pools, in the shares that a proxy needs: most of it for
    /// frames that wait for a slow reader.
    pub fn for_core_memory(bytes: u64) -> Limits {
        let mib = (bytes >> 20).max(16) as u32;
        // Per MiB: 224 rx cells of 2,240 B (49 %), 96 payload cells (21 %), 2 head cells of 20 KiB (4 %), 96 header cells of 448 B (4 %),
        // 96 flows with their contexts (about 12 %), 320 send records (1 %), 256 segments out (2 %). The rest is slack.
        Limits {
            rx_cells: 224 * mib,
            rx_reserve: (224 * mib / 16).max(256),
            payload_cells: 96 * mib,
            head_cells: 2 * mib,
            header_cells: (96 * mib).min(65_536),
            flows: 96 * mib,
            half_open: (24 * mib).max(256),
            time_wait: 256 * mib,
            send_records: 320 * mib,
            segments: 256 * mib,
            http_contexts: 48 * mib,
            tls_connections: 0,
            tls_per_source: 0,
            tls_contexts: 0,
            tls_handshakes: 0,
            record_cells: 0,
            neighbours: 1024,
            request_budget_bytes: 256 << 10,
        }
    }

    /// The same for a core whose connections, or some of them, have TLS: a seventh of the memory is for that.
    pub fn with_tls(bytes: u64) -> Limits {
        let tls = bytes / 7;
        let mib = (tls >> 20).max(2) as u32;
        let l = Limits::for_core_memory(bytes - tls);
        // Per MiB: 28 records of 16.5 KiB (45 %), 192 pairs of contexts (24 %), 16 handshakes with all that they may hold
        // (51 %), and what stands for each connection, 156 bytes (9 %). The third that is too much is in the slack of
        // the other six: a test in l7 sums it up.
        Limits {
            tls_connections: l.flows,
            tls_contexts: 192 * mib,
            tls_handshakes: 16 * mib,
            record_cells: 28 * mib,
            ..l
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_with_memory_and_never_starves_rx() {
        let demo = Limits::for_core_memory(128 << 20);
        let large = Limits::for_core_memory(4 << 30);
        assert!(large.flows > demo.flows * 30);
        for l in [demo, large, Limits::for_core_memory(0)] {
            assert!(l.rx_reserve * 4 < l.rx_cells);
            assert!(l.half_open < l.flows);
        }
    }
}
