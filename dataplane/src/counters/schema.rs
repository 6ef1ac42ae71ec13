//! The one place that defines what is counted: name, unit, and a sentence of help.
//!
//! The shared-memory segment, `millrace stats`, its `--json`, and `docs/counters.md` are all made from this
//! table. Names that start with `drop.` are drops by reason: those under `drop.tx.` are terms of the law
//! for built packets, all others of the law for received ones.

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Packets (frames).
    Packets,
    /// Bytes.
    Bytes,
    /// Things that happened.
    Events,
    /// Cycles of the TSC.
    Cycles,
    /// A level that goes up and down.
    Gauge,
}

impl Unit {
    /// The word used in reports and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Unit::Packets => "packets",
            Unit::Bytes => "bytes",
            Unit::Events => "events",
            Unit::Cycles => "cycles",
            Unit::Gauge => "gauge",
        }
    }
}

macro_rules! counters {
    ($($id:ident $name:literal $unit:ident $help:literal;)*) => {
        /// Every counter of a core.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Ctr { $(#[doc = $help] $id,)* }

        impl Ctr {
            /// All of them, in the order of the segment.
            pub const ALL: &'static [Ctr] = &[$(Ctr::$id,)*];
            /// How many there are.
            pub const COUNT: usize = Ctr::ALL.len();

            /// The name, as in reports and JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Ctr::$id => $name,)* }
            }
            /// The unit.
            pub const fn unit(self) -> Unit {
                match self { $(Ctr::$id => Unit::$unit,)* }
            }
            /// The sentence of help.
            pub const fn help(self) -> &'static str {
                match self { $(Ctr::$id => $help,)* }
            }
        }
    };
}

counters! {
    // The law of received packets.
    RxPackets "rx.packets" Packets "Frames that reached a port, whatever became of them";
    RxBytes "rx.bytes" Bytes "Bytes of those frames";
    RxAccepted "rx.accepted" Packets "Received packets that their consumer took (TCP, ICMP, ARP, ND, UDP)";
    RxForwarded "rx.forwarded" Packets "Received packets sent on as they are: what the kernel sends by an exception path";
    RxPunted "rx.punted" Packets "Received packets handed to the kernel";
    RxHandedOver "rx.handed_over" Packets "Received packets given to another core by mail, which owns their connection";
    RxTakenOver "rx.taken_over" Packets "Packets taken from another core's mail; counted besides rx.packets";
    RxCopied "rx.copied" Packets "Packets that a port without copies had to copy: their buffers were another port's, or several; counted besides rx.packets";
    // The law of built packets.
    TxBuilt "tx.built" Packets "Packets built to be sent";
    TxSent "tx.sent" Packets "Packets that a port has taken";
    TxBytes "tx.bytes" Bytes "Bytes of those packets";
    TxQueued "tx.queued" Gauge "Built packets that wait for the port";
    TxUnsent "tx.unsent" Packets "Of tx.sent, frames that the device says it has dropped all the same";

    DropPortNoBuffer "drop.port.no_buffer" Packets "No cell was free to receive into";
    DropPortTooLong "drop.port.too_long" Packets "Longer than a cell, or than the port's MTU allows";
    DropPortMissed "drop.port.missed" Packets "Dropped by the device: the core did not fetch them in time";
    DropPortDamaged "drop.port.damaged" Packets "Dropped by the device: damaged, or longer than it takes";
    DropMailFull "drop.mail.full" Packets "For another core, whose mail had no room";
    DropL2Malformed "drop.l2.malformed" Packets "Shorter than an Ethernet header, or a cut VLAN tag";
    DropL2NotOurs "drop.l2.not_ours" Packets "Sent to another station's address";
    DropL2Vlan "drop.l2.vlan" Packets "Of a VLAN that the port is not in";
    DropL2Ethertype "drop.l2.ethertype" Packets "Neither IPv4, IPv6 nor ARP";
    DropArpMalformed "drop.arp.malformed" Packets "ARP that is not Ethernet/IPv4, or cut short";
    DropArpNotOurs "drop.arp.not_ours" Packets "ARP about somebody else's address";
    DropIp4Malformed "drop.ip4.malformed" Packets "IPv4 header or length impossible";
    DropIp4Checksum "drop.ip4.bad_checksum" Packets "IPv4 header checksum wrong";
    DropIp4Fragment "drop.ip4.fragment" Packets "IPv4 fragment (reassembly is not in this version)";
    DropIp4NotOurs "drop.ip4.not_ours" Packets "IPv4 to an address that is not ours";
    DropIp6Malformed "drop.ip6.malformed" Packets "IPv6 header, extension or length impossible";
    DropIp6Fragment "drop.ip6.fragment" Packets "IPv6 fragment (reassembly is not in this version)";
    DropIp6NotOurs "drop.ip6.not_ours" Packets "IPv6 to an address that is not ours";
    DropIpMartian "drop.ip.martian" Packets "Source address that no packet may come from";
    DropIpProtocol "drop.ip.protocol" Packets "Neither TCP, UDP nor ICMP";
    DropIcmpMalformed "drop.icmp.malformed" Packets "ICMP or ICMPv6 cut short or impossible";
    DropIcmpChecksum "drop.icmp.bad_checksum" Packets "ICMP or ICMPv6 checksum wrong";
    DropIcmpUnhandled "drop.icmp.unhandled" Packets "ICMP of a kind that we have no use for";
    DropIcmpUnmatched "drop.icmp.unmatched" Packets "ICMP error about a connection that we do not have";
    DropNdMalformed "drop.nd.malformed" Packets "Neighbour discovery that RFC 4861 tells us to ignore";
    DropUdpMalformed "drop.udp.malformed" Packets "UDP length impossible";
    DropUdpChecksum "drop.udp.bad_checksum" Packets "UDP checksum wrong, or absent over IPv6";
    DropUdpQueueFull "drop.udp.queue_full" Packets "Datagrams that their listener did not take in time";
    DropUdpNoListener "drop.udp.no_listener" Packets "UDP to a port that nothing listens on (answered by ICMP)";
    DropTcpMalformed "drop.tcp.malformed" Packets "TCP header or options impossible";
    DropTcpChecksum "drop.tcp.bad_checksum" Packets "TCP checksum wrong";
    DropTcpNoListener "drop.tcp.no_listener" Packets "SYN to a port that nothing listens on (answered by RST)";
    DropTcpNoFlow "drop.tcp.no_flow" Packets "Segment of a connection that we do not have (answered by RST)";
    DropTcpReset "drop.tcp.stray_reset" Packets "RST of a connection that we do not have, or not acceptable";
    DropTcpWindow "drop.tcp.out_of_window" Packets "Segment outside the receive window (answered by ACK)";
    DropTcpAck "drop.tcp.bad_ack" Packets "Acknowledges what was never sent, or is too old (RFC 5961)";
    DropTcpSyn "drop.tcp.challenged_syn" Packets "SYN on an open connection (challenge ACK, RFC 5961)";
    DropTcpNoAck "drop.tcp.no_ack" Packets "Segment without ACK where one is required";
    DropTcpDuplicate "drop.tcp.duplicate" Packets "Data that had all been received before";
    DropTcpFlowsFull "drop.tcp.flows_full" Packets "SYN refused: every control block is in use";
    DropTcpHalfOpenFull "drop.tcp.half_open_full" Packets "SYN refused: too many handshakes under way";
    DropTcpListenerFull "drop.tcp.listener_full" Packets "SYN, or end of a handshake, not taken: the listener has as many connections as it may";
    DropTcpDraining "drop.tcp.draining" Packets "SYN refused: the node drains (answered by RST)";
    DropTcpRxLow "drop.tcp.rx_low" Packets "Data refused: no room for it in the rx pool";
    DropTcpClosed "drop.tcp.after_close" Packets "Data for a connection whose reader has gone (answered by RST)";
    DropTcpTimeWait "drop.tcp.time_wait" Packets "Segment of a connection in TIME-WAIT";
    DropTcpOverlap "drop.tcp.ooo_overlap" Packets "Out-of-order data that overlaps what is held";
    DropTcpHoles "drop.tcp.too_many_holes" Packets "Out-of-order data behind more holes than are walked by";
    DropTcpPaws "drop.tcp.paws" Packets "Segment whose timestamp is older than what was taken (RFC 7323)";

    DropPuntLink "drop.punt.link" Packets "Exception path: more multicast, broadcast, ARP and ND than the kernel is given in a second";
    DropPuntTcp "drop.punt.tcp" Packets "Exception path: more TCP than the kernel is given in a second";
    DropPuntOther "drop.punt.other" Packets "Exception path: more of other protocols than the kernel is given in a second";

    DropTxQueueFull "drop.tx.queue_full" Packets "Built, but the port's queue was full";
    DropTxPortError "drop.tx.port_error" Packets "Built, but the port refused it (link down, too long)";
    DropTxNeighbour "drop.tx.unresolved" Packets "Built, but the neighbour did not answer, or too many waited for it";
    DropTxNoRoute "drop.tx.no_route" Packets "Built, but no address of ours reaches the destination";

    ArpRequests "arp.requests_sent" Events "ARP requests sent";
    ArpReplies "arp.replies_sent" Events "ARP replies sent";
    NdSolicits "nd.solicitations_sent" Events "Neighbour solicitations sent";
    NdAdverts "nd.advertisements_sent" Events "Neighbour advertisements sent";
    NeighboursFull "neighbour.table_full" Events "Neighbour entries recycled because the table was full";
    NeighboursAsked "neighbour.kernel_asked" Events "Neighbours that the kernel was asked for, on ports that it shares";
    NeighboursUnasked "neighbour.kernel_not_asked" Events "The same, not asked because too many questions waited";
    Neighbours "neighbour.entries" Gauge "Neighbour entries";
    IcmpEchoReplies "icmp.echo_replies" Events "Echo requests answered, v4 and v6";
    IcmpErrorsSent "icmp.errors_sent" Events "ICMP and ICMPv6 errors sent";
    IcmpErrorsLimited "icmp.errors_limited" Events "ICMP errors not sent because of the rate limit";
    IcmpErrorsReceived "icmp.errors_received" Events "ICMP errors about connections of ours";
    UdpReceived "udp.received" Packets "Datagrams given to a listener";

    TcpPassiveOpens "tcp.passive_opens" Events "Connections that clients opened, counted when established";
    TcpActiveOpens "tcp.active_opens" Events "Connections that we began to open";
    TcpActiveFailed "tcp.active_failed" Events "Connections that we could not open";
    TcpClosed "tcp.closed" Events "Connections that ended in order";
    TcpResetsSent "tcp.resets_sent" Events "RST segments sent";
    TcpResetsReceived "tcp.resets_received" Events "Connections that the peer reset";
    TcpTimeouts "tcp.timeouts" Events "Connections given up: the peer did not answer";
    TcpLingerOver "tcp.linger_over" Events "Connections without an owner given up: the peer took the rest too slowly";
    TcpSegmentsIn "tcp.segments_in" Packets "Segments that belong to a connection of ours";
    TcpSegmentsOut "tcp.segments_out" Packets "Segments sent";
    TcpBytesIn "tcp.bytes_in" Bytes "Payload taken in order";
    TcpBytesOut "tcp.bytes_out" Bytes "Payload sent, without retransmissions";
    TcpRetransmits "tcp.retransmits" Packets "Segments sent again";
    TcpRto "tcp.rto" Events "Retransmission timeouts";
    TcpFastRetransmit "tcp.fast_retransmits" Events "Loss recoveries begun by duplicate ACKs";
    TcpSegmentsLost "tcp.lost" Packets "Segments found lost";
    TcpTailProbes "tcp.tail_probes" Events "Probes sent for a tail that may be lost (RFC 8985)";
    TcpTailRepaired "tcp.tail_repaired" Events "Losses of a tail that its probe has repaired";
    TcpUndo "tcp.undo" Events "Losses that were none: the window was given back (RFC 3708, 4015)";
    TcpDsackReceived "tcp.dsack_received" Events "Duplicates that peers have reported (RFC 2883)";
    TcpSackReneged "tcp.sack_reneged" Events "Timeouts after which a peer had thrown away what it had SACKed";
    TcpSackSkipped "tcp.sack_skipped" Events "SACK blocks left for the next ACK: they were too far to look for";
    TcpOutOfOrder "tcp.out_of_order" Packets "Segments taken out of order";
    TcpDupAcks "tcp.dup_acks" Packets "Duplicate ACKs received";
    TcpZeroWindow "tcp.zero_window" Events "Times that a peer closed its window";
    TcpZeroWindowProbes "tcp.zero_window_probes" Events "Probes sent into a closed window";
    TcpKeepAlives "tcp.keep_alives" Events "Keep-alive probes sent";
    TcpChallengeAcks "tcp.challenge_acks" Events "Challenge ACKs sent (RFC 5961)";
    TcpChallengeLimited "tcp.challenge_limited" Events "Challenge ACKs, and answers to empty segments outside of the window, not sent because of a rate limit";
    TcpDelayedAcks "tcp.delayed_acks" Events "ACKs sent because their delay had passed";
    TcpCompacted "tcp.compacted" Packets "Payloads copied into another cell so that they do not pin their own";
    TcpNoTimestamp "tcp.no_timestamp" Packets "Segments taken without a timestamp on a connection that has them";
    TcpCookiesSent "tcp.cookies_sent" Events "SYNs answered by a cookie, without a control block";
    TcpCookiesAccepted "tcp.cookies_accepted" Events "Connections that a cookie brought about";
    TcpCookiesRefused "tcp.cookies_refused" Events "ACKs without a connection, while cookies are out, whose number is none of them";
    TcpCookiesActive "tcp.cookies_active" Gauge "Cores that answer SYNs by cookies, as too many handshakes are under way";
    TcpCeReceived "tcp.ce_received" Packets "Segments that a router has marked for congestion (RFC 3168)";
    TcpEceReceived "tcp.ece_received" Packets "ACKs that echo such a mark of ours";
    TcpUrgent "tcp.urgent" Packets "Segments with urgent data, which is delivered in line";
    TcpMtuLearnt "tcp.mtu_learnt" Events "Connections that ICMP told of a narrower path (packet too big)";
    TcpMtuSuspects "tcp.mtu_suspects" Events "Times that segments were made shorter, as longer ones time out and no ICMP comes";
    TcpReneged "tcp.reneged" Events "Times that a connection's out-of-order data was let go for want of room";
    TcpNoRecord "tcp.no_send_record" Events "Data not queued: every send record is in use";
    TcpNoSegment "tcp.no_segment" Events "Segments not sent: every record of segments out is in use, or the connection's share of them";
    TcpNoHeader "tcp.no_header" Events "Segments not built: every header cell is in use";
    TcpTimeWaits "tcp.time_waits" Events "Connections that entered TIME-WAIT";
    TcpTimeWaitRecycled "tcp.time_wait_recycled" Events "TIME-WAIT records recycled because the pool was full";
    TcpTimeWaitReused "tcp.time_wait_reused" Events "TIME-WAIT records that a new SYN took over";
    TcpTimeWaitReset "tcp.time_wait_reset" Events "TIME-WAIT records that the peer has reset";
    TcpTimersCarried "tcp.timers_carried" Events "Expiries left for the next pass";
    TcpFlows "tcp.flows" Gauge "Connections with a control block";
    TcpHalfOpen "tcp.half_open" Gauge "Connections whose handshake is not done";
    TcpInTimeWait "tcp.in_time_wait" Gauge "TIME-WAIT records in use";

    HttpConnections "http.connections" Events "Client connections accepted";
    HttpOpen "http.connections_open" Gauge "Client connections open";
    HttpActive "http.requests_active" Gauge "Requests under way";
    HttpRequests "http.requests" Events "Requests whose head was taken";
    Http1xx "http.responses_1xx" Events "Interim responses sent";
    Http2xx "http.responses_2xx" Events "Responses sent, 2xx";
    Http3xx "http.responses_3xx" Events "Responses sent, 3xx";
    Http4xx "http.responses_4xx" Events "Responses sent, 4xx";
    Http5xx "http.responses_5xx" Events "Responses sent, 5xx";
    HttpOther "http.responses_other" Events "Responses sent with a status beyond 5xx";
    HttpComplete "http.completed" Events "Responses handed to TCP to their last byte";
    HttpAborted "http.aborted" Events "Responses broken off: the origin failed in the middle";
    HttpClientGone "http.client_gone" Events "Requests whose client left before the response was done";
    HttpRejected "http.rejected" Events "Requests refused by us: malformed, ambiguous, or beyond a limit";
    HttpTunnels "http.tunnels" Events "Connections upgraded to a tunnel";
    HttpNoContext "http.no_context" Events "Requests answered 503: every request context is in use";
    HttpNoSite "http.no_site" Events "Requests for a host that no site has";
    HttpMisdirected "http.misdirected" Events "Requests by a TLS connection whose client was not verified as those of their site are";
    HttpNoCertificate "http.no_certificate" Events "Requests without TLS for a site that is only for clients with certificates";
    HttpHeaderTimeout "http.header_timeout" Events "Clients that took too long to send a head";
    HttpIdleClosed "http.idle_closed" Events "Kept-alive client connections closed because they were idle";
    HttpBodyTimeout "http.body_timeout" Events "Requests ended because a body stood still for too long";
    HttpPlanEnded "http.plan_ended" Events "Requests ended because they outlived too many reloads";
    HttpStub "http.stub" Events "Requests answered by the built-in stub (benches)";
    HttpEarly "http.early" Events "Requests that came before their client's TLS handshake was done, and were answered meanwhile; an origin was told (Early-Data)";
    HttpEarlyHeld "http.early_held" Events "Requests that came before their client's TLS handshake was done, and waited for it: not safe to be sent twice";
    HttpEarlyAgain "http.early_again" Events "Requests that an origin did not want that early (425), and that it got again when the handshake was done";
    HttpProxyBad "http.proxy_protocol_bad" Events "Connections closed because their PROXY protocol header was malformed or missing";
    // Handshakes of TLS.
    TlsFull "tls.handshakes_full" Events "Handshakes with clients done in full";
    TlsResumed "tls.handshakes_resumed" Events "Handshakes with clients done by resuming an earlier session";
    TlsSessionOver "tls.session_over" Events "Clients that came with a session whose time was over, or that of their certificate: they shook hands in full, or not at all";
    TlsEarlyTaken "tls.early_data_taken" Events "Handshakes whose client sent data before it had heard anything (0-RTT), which was taken";
    TlsEarlyRefused "tls.early_data_refused" Events "Handshakes whose client said that it would, and none was taken: its session was not there any more, or early data is off";
    TlsEarlyEvicted "tls.early_sessions_evicted" Events "Sessions of clients that may send early data, forgotten before their time because newer ones needed the room: their clients shake hands in full";
    TlsFailedProtocol "tls.failed_protocol" Events "Handshakes with clients that failed: what the client sent is no handshake, or a wrong one";
    TlsFailedIncompatible "tls.failed_incompatible" Events "Handshakes with clients that failed: no version, suite, group or name in common";
    TlsFailedCertificate "tls.failed_certificate" Events "Handshakes with clients that failed: the client's certificate is missing, or not one that we trust";
    TlsFailedAlert "tls.failed_alert" Events "Handshakes with clients that failed: the client broke them off by an alert; mostly it does not trust our certificate";
    TlsFailedInternal "tls.failed_internal" Events "Handshakes with clients that failed for a reason of ours";
    TlsUnknownName "tls.unknown_name" Events "Clients that asked for a name we have no certificate for; counted besides tls.failed_incompatible";
    TlsCancelled "tls.handshakes_cancelled" Events "Handshakes that ended undone: the connection was closed, or they took too long";
    TlsShedFull "tls.shed_full" Events "Connections refused before their handshake: as many are under way as may be";
    TlsShedSilent "tls.shed_silent" Events "Clients that had to make room for another before they had said anything";
    TlsShedSource "tls.shed_source" Events "Connections refused before their handshake: their source has as many under way as it may have";
    TlsShedShare "tls.shed_share" Events "Connections refused before their handshake: their source has as many connections with TLS as it may have";
    TlsShedLong "tls.shed_long" Events "Handshakes ended because long certificates came, and as many with such are under way as may be";
    TlsHelped "tls.helped" Events "Steps of handshakes that helper threads took: slow signatures, certificates to be verified, and what was too much for the core";
    TlsHelpersFull "tls.helpers_full" Events "Times that a step had to wait because as much as may be was with the helper threads";
    TlsActive "tls.handshakes_active" Gauge "Handshakes under way, with clients and origins";
    TlsWaiting "tls.handshakes_waiting" Gauge "Of those, the ones that wait for a turn on the core";
    TlsAway "tls.handshakes_away" Gauge "Of those, the ones that are with a helper thread";
    TlsOriginFull "tls.origin_handshakes_full" Events "Handshakes with origins done in full";
    TlsOriginResumed "tls.origin_handshakes_resumed" Events "Handshakes with origins done by resuming an earlier session";
    TlsOriginFailed "tls.origin_handshakes_failed" Events "Handshakes with origins that failed; the log says why";
    LogLines "log.lines" Events "Lines written to the access log";
    LogNewsLeftOut "log.news_left_out" Events "Messages about origins that are down or up that were not logged, because there were too many";
    LogDropped "log.dropped" Events "Lines of the access log that were lost because it was not written out fast enough";
    CacheHits "cache.hits" Events "Requests answered from the cache, fresh";
    CacheHitsStale "cache.hits_stale" Events "Requests answered from the cache, stale: while it is validated, or because the origin failed";
    CacheMisses "cache.misses" Events "Cacheable requests whose response was not stored";
    CacheBypassed "cache.bypassed" Events "Cacheable requests sent past the cache: it holds that the response is not to be shared, or had no room";
    CacheCollapsed "cache.collapsed" Events "Requests that waited for another request's fetch";
    CacheFetches "cache.fetches" Events "Fetches into the cache begun";
    CacheFetchFailed "cache.fetches_failed" Events "Fetches that the origin did not answer, or broke off";
    CacheValidations "cache.validations" Events "Stored responses that the origin was asked about";
    CacheValidated "cache.validated" Events "Of those, found still good (304)";
    CacheStored "cache.stored" Events "Responses stored whole";
    CacheNotStored "cache.not_stored" Events "Fetched responses that may not be stored";
    CacheOutgrown "cache.outgrown" Events "Fetches that the store had no room for, or that grew beyond their bound";
    CacheInvalidated "cache.invalidated" Events "Stored responses invalidated by an unsafe request (RFC 9111 4.4)";
    CacheSlowReset "cache.slow_reset" Events "Readers reset because they held too many evicted bytes";
    CacheNotAdmitted "cache.not_admitted" Events "Cacheable requests sent past the cache because their URL had not been asked for often enough (admit_after)";
    CacheSlicesServed "cache.slices_served" Events "Slices that bodies were sent from, stored ones and those just fetched";
    CacheSlicesFetched "cache.slices_fetched" Events "Requests to the origin for one slice";
    CacheSlicesRefused "cache.slices_refused" Events "Of those, answered with something else: the whole, another range, or without total or strong validator";
    CacheSlicesMismatched "cache.slices_mismatched" Events "Slices that were of another version than the body they were wanted for: the old ones are dropped";
    CacheBytesServed "cache.bytes_served" Bytes "Bytes of bodies sent from the cache";
    TlsSessions "tls.sessions" Gauge "Established connections with TLS";
    TlsNoSession "tls.no_session" Events "Connections for which no session was left";
    TlsNoCell "tls.no_cell" Events "Connections ended because there was no cell for a record";
    TlsCellWaits "tls.cell_waits" Events "Records that came when no cell was free for them, and had to wait";
    TlsTruncated "tls.truncated" Events "Connections whose peer ended them without having said so by TLS";
    TlsRecordsSealed "tls.records_sealed" Events "Records sealed: data, alerts and key updates";
    TlsRecordsSealedAgain "tls.records_sealed_again" Events "Records sealed once more because their bytes had been let go before they were acknowledged";
    TlsRecordsLetGo "tls.records_let_go" Events "Records of stored bodies whose bytes were let go before they were acknowledged, as memory for records was short";
    TlsAgainLeft "tls.again_left" Events "Connections that were finished with, but kept until such a record could be sealed again or was acknowledged";
    TlsAgainWaits "tls.again_waits" Events "Times that there was no cell to seal such a record again: it waits";
    TlsAgainDiffers "tls.again_differs" Events "Connections ended because such a record did not come out the same: a defect";
    TlsBytesSealed "tls.bytes_sealed" Bytes "Bytes of plaintext in records sealed";
    TlsRecordsOpened "tls.records_opened" Events "Records opened, and taken";
    TlsBytesReceived "tls.bytes_received" Bytes "Bytes of those records, headers and all";
    TlsKeyUpdatesSent "tls.key_updates_sent" Events "Key updates that we sent: the peer had asked, or AES-GCM was half-way to its limit of records";
    TlsKeyUpdatesReceived "tls.key_updates_received" Events "Key updates that peers sent";
    TlsBadMac "tls.bad_mac" Events "Connections ended by a record that does not authenticate";
    TlsBadLength "tls.bad_length" Events "Connections ended by a record longer than TLS allows";
    TlsBadType "tls.bad_type" Events "Connections ended by a record or message of a type that may not come where it came";
    TlsBadContent "tls.bad_content" Events "Connections ended by an alert or a message that cannot be read";
    TlsFloods "tls.floods" Events "Connections ended because record after record brought no data";
    TlsRenegotiationRefused "tls.renegotiation_refused" Events "TLS 1.2 connections ended because the peer wanted to shake hands again";
    TlsContextsMade "tls.contexts_made" Events "AEAD contexts made, one for each direction of a connection";
    TlsContextsEvicted "tls.contexts_evicted" Events "Connections that lost their AEAD contexts to one that has records";
    OriginConnects "origin.connects" Events "Origin connections that we began to open";
    OriginRaced "origin.raced" Events "Origin connections begun beside one that was not there yet, to another address";
    OriginReused "origin.reused" Events "Requests sent on a kept-alive origin connection";
    OriginRetries "origin.retries" Events "Requests sent again because a kept-alive connection had gone stale";
    OriginConnectFailed "origin.connect_failed" Events "Origin connections refused or unreachable";
    OriginConnectTimeout "origin.connect_timeout" Events "Origins that did not answer a SYN in time";
    OriginTlsExpired "origin.tls_failed_expired" Events "TLS handshakes with origins that failed: the certificate's time is over";
    OriginTlsNotYetValid "origin.tls_failed_not_yet_valid" Events "The same: the certificate's time has not begun";
    OriginTlsUnknownIssuer "origin.tls_failed_unknown_issuer" Events "The same: no trusted root has signed the certificate";
    OriginTlsSelfSigned "origin.tls_failed_self_signed" Events "The same: the certificate has signed itself, and is not among the roots";
    OriginTlsNameMismatch "origin.tls_failed_name" Events "The same: the certificate is for other names";
    OriginTlsRevoked "origin.tls_failed_revoked" Events "The same: the certificate is revoked";
    OriginTlsBadCertificate "origin.tls_failed_bad_certificate" Events "The same: the certificate cannot be read, or is for another purpose, or its signature is wrong";
    OriginTlsNothingInCommon "origin.tls_failed_nothing_in_common" Events "The same: no version, suite, group or protocol that both have";
    OriginTlsAlert "origin.tls_failed_alert" Events "The same: the origin ended it with an alert";
    OriginTlsProtocol "origin.tls_failed_protocol" Events "The same: what came is no TLS, or against its rules";
    OriginTlsClosed "origin.tls_failed_closed" Events "The same: the origin closed or reset the connection";
    OriginTlsTimeout "origin.tls_failed_timeout" Events "The same: it took too long";
    OriginTlsNoRoom "origin.tls_failed_no_room" Events "The same: no memory or no place for another handshake";
    OriginFirstByteTimeout "origin.first_byte_timeout" Events "Origins that sent no response head in time";
    OriginBadResponse "origin.bad_response" Events "Responses that are not HTTP, ambiguous, or beyond a limit";
    OriginClosedEarly "origin.closed_early" Events "Origins that closed or reset within a response";
    OriginIdle "origin.idle" Gauge "Kept-alive origin connections in the pool";
    OriginIdleClosed "origin.idle_closed" Events "Pooled origin connections that ended: idle, stale, or too many";
    OriginRetried "origin.retried" Events "Requests sent to another origin because one had failed";
    OriginRetryRefused "origin.retry_refused" Events "Requests not tried again because too many others were";
    OriginQueued "origin.queued" Events "Requests that waited because all origins were full";
    OriginQueueFull "origin.queue_full" Events "Requests answered 503 because too many waited already";
    OriginQueueTimeout "origin.queue_timeout" Events "Requests answered 503 because they had waited too long";
    OriginChecks "origin.checks" Events "Health checks of origins that were begun";
    OriginChecksLeftOut "origin.checks_left_out" Events "Health checks that were not made for want of a connection, a port, a handshake or memory of ours";
    OriginCheckFailures "origin.check_failures" Events "Health checks that failed";
    OriginDown "origin.down" Gauge "Origins that are down by their health checks";
    OriginEjections "origin.ejections" Events "Origins left out for a while because requests failed, by core";

    SteerPredicted "steer.predicted" Events "Connections that a device with RSS brought to the core that we predicted";
    SteerUnpredicted "steer.unpredicted" Events "Connections that it brought to another core: software steering has the work";
    MailSent "mail.sent" Events "Letters to other cores: frames of their connections, neighbours learned";
    MailReceived "mail.received" Events "Letters from other cores";
    MailFull "mail.full" Events "Letters not sent because the other core's mail had no room";

    LoopPasses "loop.passes" Events "Passes of the core loop";
    LoopBusy "loop.busy_cycles" Cycles "Cycles of passes that found something to do";
    LoopIdle "loop.idle_cycles" Cycles "Cycles of passes that did not, sleep included";
    LoopSleeps "loop.sleeps" Events "Times that the idle core slept or waited for an interrupt";
    PoolRxFree "pool.rx_free" Gauge "Receive cells free";
    PoolPayloadFree "pool.payload_free" Gauge "Payload cells free";
    PoolHeaderFree "pool.header_free" Gauge "Header cells free";
    PoolRecordFree "pool.record_free" Gauge "Cells for TLS records free";
    PoolPayloadEmpty "pool.payload_empty" Events "Times that no payload cell was free";
}

impl Ctr {
    /// Whether this is a term of the law for received packets.
    pub fn is_rx_drop(self) -> bool {
        self.name().starts_with("drop.") && !self.name().starts_with("drop.tx.")
    }

    /// Whether this is a term of the law for built packets.
    pub fn is_tx_drop(self) -> bool {
        self.name().starts_with("drop.tx.")
    }
}

macro_rules! named {
    ($(#[$meta:meta])* $enum:ident { $($id:ident $name:literal $help:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $enum { $(#[doc = $help] $id,)* }

        impl $enum {
            /// All of them, in the order of the segment.
            pub const ALL: &'static [$enum] = &[$($enum::$id,)*];
            /// How many there are.
            pub const COUNT: usize = $enum::ALL.len();

            /// The name, as in reports and JSON.
            pub const fn name(self) -> &'static str {
                match self { $($enum::$id => $name,)* }
            }
            /// The sentence of help.
            pub const fn help(self) -> &'static str {
                match self { $($enum::$id => $help,)* }
            }
        }
    };
}

named! {
    /// The stages of the pipeline, in the order in which a packet meets them.
    Stage {
        Rx "rx" "Taking a burst from a port";
        Parse "parse" "L2 to L4 headers, addresses, checksums";
        Net "net" "ARP, ND, ICMP, UDP";
        Tcp "tcp" "Segments into connections";
        Http "http" "Events of connections: requests, responses, the proxy";
        Output "output" "Building segments: new data, ACKs, retransmissions";
        Timers "timers" "Expired deadlines of TCP and HTTP";
        Tx "tx" "Handing packets to a port";
    }
}

named! {
    /// The latencies of a request, in nanoseconds.
    Hist {
        FirstByteOrigin "first_byte_origin" "Request head taken to first byte of the response queued, answered by an origin";
        FirstByteCache "first_byte_cache" "Request head taken to first byte of the response queued, answered from the cache";
        LastByte "last_byte" "Request head taken to last byte of the response queued";
        OriginConnect "origin_connect" "SYN to an origin until its connection is established";
        OriginWait "wait" "Request head taken until a connection to an origin is taken or begun";
        OriginFirstByte "origin_first_byte" "Request sent to an origin until the head of its response has come";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_helped() {
        let mut names: Vec<&str> = Ctr::ALL.iter().map(|c| c.name()).collect();
        names.extend(Stage::ALL.iter().map(|s| s.name()));
        names.extend(Hist::ALL.iter().map(|h| h.name()));
        let n = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), n);
        assert!(Ctr::ALL.iter().all(|c| c.help().len() > 8 && !c.help().ends_with('.')));
        assert!(Ctr::DropTcpChecksum.is_rx_drop() && !Ctr::DropTxQueueFull.is_rx_drop());
    }
}
