"""What a capture of a transfer shows: taken between the sender and the link, so that it tells what the sender did and when it
could have known better. Reads tcpdump's files (nanoseconds or microseconds), of Ethernet, IPv4 and TCP; no other tools.
"""

import struct
from dataclasses import dataclass, field

SYN, FIN, RST, ACK = 2, 1, 4, 16


@dataclass
class Segment:
    """One frame."""

    at: float
    source: tuple
    target: tuple
    seq: int
    ack: int
    flags: int
    window: int
    length: int
    sacks: list = field(default_factory=list)
    stamp: tuple = None


def packets(file):
    """Time and bytes of each frame."""
    with open(file, "rb") as f:
        magic = f.read(4)
        order = "<" if magic in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
        scale = 1e-9 if magic in (b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d") else 1e-6
        f.read(20)
        while len(head := f.read(16)) == 16:
            seconds, part, kept, _ = struct.unpack(order + "IIII", head)
            yield seconds + part * scale, f.read(kept)


def segment(at, frame):
    """None for what is not TCP over IPv4."""
    if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return None
    ip = 14
    ip_len = (frame[ip] & 15) * 4
    total = struct.unpack_from(">H", frame, ip + 2)[0]
    tcp = ip + ip_len
    sport, dport, seq, ack, off, flags, window = struct.unpack_from(">HHIIBBH", frame, tcp)
    tcp_len = (off >> 4) * 4
    s = Segment(at, (frame[ip + 12 : ip + 16], sport), (frame[ip + 16 : ip + 20], dport), seq, ack, flags, window, total - ip_len - tcp_len)
    options, end = tcp + 20, min(tcp + tcp_len, len(frame))
    while options < end:
        kind = frame[options]
        if kind == 0:
            break
        if kind == 1:
            options += 1
            continue
        if options + 1 >= end or frame[options + 1] < 2:
            break
        size = frame[options + 1]
        body = frame[options + 2 : min(options + size, end)]
        if kind == 5:
            s.sacks = [struct.unpack_from(">II", body, i) for i in range(0, len(body) - 7, 8)]
        elif kind == 8 and len(body) == 8:
            s.stamp = struct.unpack(">II", body)
        options += size
    return s


def since(a, b):
    """a - b of sequence numbers, signed."""
    return (a - b + (1 << 31)) % (1 << 32) - (1 << 31)


@dataclass
class Line:
    """What went on in one stretch of time."""

    begin: float
    sent: int = 0
    again: int = 0
    acked: int = 0
    flight_max: int = 0
    acks: int = 0
    sacks: int = 0
    rtt_ms: list = field(default_factory=list)


class Sender:
    """Follows one connection from its sender's side."""

    def __init__(self, isn, began, every):
        self.isn, self.began, self.every = isn, began, every
        self.una = self.nxt = 1
        self.first_sent, self.sent_again = {}, set()
        self.lines, self.events, self.sacked, self.last_sent, self.last_ack, self.dup = [], [], [], None, None, 0
        self.segments = self.bytes = self.again = self.again_bytes = self.needless = 0
        self.sizes = {}

    def line(self, at):
        n = int((at - self.began) / self.every)
        while len(self.lines) <= n:
            self.lines.append(Line(len(self.lines) * self.every))
        return self.lines[n]

    def tell(self, at, text):
        self.events.append((at - self.began, text))

    def data(self, s):
        seq, end = since(s.seq, self.isn), since(s.seq, self.isn) + s.length
        line = self.line(s.at)
        if self.last_sent is not None and s.at - self.last_sent > 0.15:
            self.tell(s.at, f"nothing sent for {1e3 * (s.at - self.last_sent):.0f} ms, {self.nxt - self.una} bytes out")
        self.segments += 1
        self.sizes[s.length] = self.sizes.get(s.length, 0) + 1
        line.sent += 1
        if seq < self.nxt:
            self.again += 1
            self.again_bytes += s.length
            line.again += 1
            held = any(b <= seq and end <= e for b, e in self.sacked) or end <= self.una
            self.needless += held
            before = self.first_sent.get(seq)
            self.tell(
                s.at, f"again {seq}+{s.length}" + (f", first sent {1e3 * (s.at - before):.0f} ms ago" if before else "")
                + f", {self.dup} duplicate ACKs, {self.nxt - self.una} bytes out" + (", though it was SACKed or acknowledged" if held else ""),
            )
            self.sent_again.add(seq)
        else:
            self.bytes += s.length
            self.first_sent[seq] = s.at
        self.nxt = max(self.nxt, end)
        line.flight_max = max(line.flight_max, self.nxt - self.una)
        self.last_sent = s.at

    def ack(self, s):
        ack = since(s.ack, self.isn)
        line = self.line(s.at)
        line.acks += 1
        if s.sacks:
            line.sacks += 1
            self.sacked = [(since(b, self.isn), since(e, self.isn)) for b, e in s.sacks]
        if ack > self.una:
            for seq in [q for q in self.first_sent if q < ack]:
                sent = self.first_sent.pop(seq)
                if seq not in self.sent_again:
                    line.rtt_ms.append(1e3 * (s.at - sent))
            line.acked += ack - self.una
            self.una, self.dup = ack, 0
        elif ack == self.una and self.nxt > self.una and s.length == 0:
            self.dup += 1
        self.last_ack = s.at


def longest(file):
    """The segments of the connection with the most bytes in a capture."""
    flows = {}
    for at, frame in packets(file):
        s = segment(at, frame)
        if s:
            flows.setdefault(tuple(sorted((s.source, s.target))), []).append(s)
    return max(flows.values(), key=lambda f: sum(s.length for s in f), default=[])


def follow(flow, every):
    """What its sender did; None when the connection's beginning is not in it."""
    bytes_by = {}
    for s in flow:
        bytes_by[s.source] = bytes_by.get(s.source, 0) + s.length
    source = max(bytes_by, key=bytes_by.get, default=None)
    isn = next((s.seq for s in flow if s.source == source and s.flags & SYN), None)
    if isn is None:
        return None
    sender = Sender(isn, flow[0].at, every)
    for s in flow:
        if s.source == source:
            if s.flags & SYN:
                sender.tell(s.at, "SYN")
            elif s.length:
                sender.data(s)
        elif s.flags & ACK:
            sender.ack(s)
    return sender


def explain(file, every, events_max):
    """Prints what a capture shows of its longest connection."""
    flow = longest(file)
    sender = follow(flow, every)
    if sender is None:
        print("no TCP connection with its beginning in it")
        return
    print(
        f"{sender.segments} segments of data, {sender.bytes} bytes; again {sender.again} segments, {sender.again_bytes} bytes, of which {sender.needless} were "
        f"there already; {flow[-1].at - flow[0].at:.3f} s"
    )
    sizes = sorted(sender.sizes.items(), key=lambda p: -p[1])[:6]
    print("lengths: " + ", ".join(f"{n} x {size}" for size, n in sizes))
    print(f"\n{'from s':>7} {'sent':>6} {'again':>6} {'acked Mbit/s':>13} {'out, max KB':>12} {'ACKs':>6} {'SACKs':>6} {'RTT ms':>8}")
    for n in sender.lines:
        rtt = f"{sorted(n.rtt_ms)[len(n.rtt_ms) // 2]:8.1f}" if n.rtt_ms else "       –"
        print(f"{n.begin:7.2f} {n.sent:6} {n.again:6} {n.acked * 8e-6 / every:13.2f} {n.flight_max / 1e3:12.1f} {n.acks:6} {n.sacks:6} {rtt}")
    print()
    for at, text in sender.events[:events_max]:
        print(f"{at:8.4f}  {text}")
    if len(sender.events) > events_max:
        print(f"… and {len(sender.events) - events_max} more")
