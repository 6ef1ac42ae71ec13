"""The two ends of a transfer that are the kernel's: a client that measures, and a server for Linux as the sender.

Both are long-lived processes inside a namespace, told what to do and telling what they saw in lines of JSON:

    python3 -m transfers.ends serve ADDRESS PORT=ALGORITHM…      (ALGORITHM: cubic, bbr …; - is the namespace's)
    python3 -m transfers.ends fetch                              (orders on stdin, a line each)

The server answers `GET /N` with N bytes from memory, in HTTP/1.1, for as many requests as a connection brings. When a
connection ends it tells its TCP_INFO. The bytes of an object are those of PATTERN over and over, so that the client
can see that each is where it belongs; 65,521 is prime, so that no segment or buffer size hides a shift.
"""

import hashlib
import json
import os
import select
import socket
import struct
import sys
import threading
import time

PERIOD = 65521
BLOCK = hashlib.shake_128(b"millrace").digest(PERIOD)
# Long enough that any slice of PIECE bytes that begins within the first period is in it.
PIECE = 1 << 20
PATTERN = memoryview(BLOCK * (PIECE // PERIOD + 2))


def tell(**what):
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


# --- what the kernel knows of a connection ------------------------------------------------------------------

# struct tcp_info of linux/tcp.h: name, format, offset.
TCP_INFO = {
    "rto_us": ("I", 8), "snd_mss": ("I", 16), "lost": ("I", 32), "rtt_us": ("I", 68), "rttvar_us": ("I", 72),
    "ssthresh": ("I", 76), "cwnd": ("I", 80), "reordering": ("I", 88), "retransmits": ("I", 100),
    "bytes_acked": ("Q", 120), "min_rtt_us": ("I", 148), "data_segs_out": ("I", 156), "busy_us": ("Q", 168),
    "rwnd_limited_us": ("Q", 176), "sndbuf_limited_us": ("Q", 184), "bytes_retrans": ("Q", 208),
    "dsack_dups": ("I", 216), "reord_seen": ("I", 220), "rcv_ooopack": ("I", 224),
}


def tcp_info(sock):
    raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    out = {}
    for name, (kind, at) in TCP_INFO.items():
        if at + struct.calcsize(kind) <= len(raw):
            out[name] = struct.unpack_from("=" + kind, raw, at)[0]
    return out


# --- server -------------------------------------------------------------------------------------------------

def heads(sock):
    """The targets that a connection asks for, one after the other."""
    held = b""
    while True:
        while b"\r\n\r\n" not in held:
            got = sock.recv(65536)
            if not got:
                return
            held += got
        head, held = held.split(b"\r\n\r\n", 1)
        yield head.split(b" ", 2)[1].decode()


def answer(sock, size):
    # What our node adds is about as long.
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\n"
        "Cache-Control: max-age=86400\r\n\r\n"
    ).encode()
    sock.sendall(head, socket.MSG_MORE)
    at = 0
    while at < size:
        n = min(PIECE, size - at)
        sock.sendall(PATTERN[at % PERIOD : at % PERIOD + n])
        at += n


def serve_one(sock, port):
    info, error = {}, None
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for target in heads(sock):
            answer(sock, int(target.strip("/").split("?")[0]))
        info = tcp_info(sock)
    except (OSError, ValueError) as e:
        error = str(e)
        try:
            info = tcp_info(sock)
        except OSError:
            pass
    sock.close()
    tell(event="closed", port=port, error=error, **info)


def listen(address, port, algorithm):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if algorithm != "-":
        # Inherited by what it accepts.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, algorithm.encode())
    sock.bind((address, port))
    sock.listen(64)
    while True:
        peer, _ = sock.accept()
        threading.Thread(target=serve_one, args=(peer, port), daemon=True).start()


def serve(address, ports):
    for spec in ports:
        port, algorithm = spec.split("=")
        threading.Thread(target=listen, args=(address, int(port), algorithm), daemon=True).start()
    time.sleep(0.2)
    tell(event="ready")
    sys.stdin.read()


# --- client -------------------------------------------------------------------------------------------------

def body_is_right(data, at):
    """Whether these bytes are those of the object from offset `at`; `data` is at most PIECE long."""
    return data == PATTERN[at % PERIOD : at % PERIOD + len(data)]


def fetch(order):
    """One transfer over a connection of its own; times are seconds since connect() was called."""
    out = {"event": "fetched", "id": order.get("id"), "bytes": 0, "error": None}
    sock = socket.socket()
    sock.settimeout(order["timeout"])
    series, every = [], order.get("every")
    size = order["size"]
    buf = memoryview(bytearray(PIECE))
    start = time.monotonic()
    deadline = start + order.get("seconds", order["timeout"])
    try:
        sock.connect((order["address"], order["port"]))
        out["connected"] = time.monotonic() - start
        path = f"GET /{size} HTTP/1.1\r\nHost: {order['host']}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
        sock.sendall(path.encode())
        head = b""
        while b"\r\n\r\n" not in head:
            n = sock.recv_into(buf)
            if n == 0:
                raise OSError("closed before the head")
            if not head:
                out["first_byte"] = time.monotonic() - start
            head += bytes(buf[:n])
        head, rest = head.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        if " 200 " not in lines[0] + " " or int(fields.get("content-length", -1)) != size:
            raise OSError(f"answered {lines[0]}, {fields.get('content-length')}")
        at, right = len(rest), body_is_right(rest, 0)
        due = start + every if every else None
        now = time.monotonic()
        while at < size and now < deadline:
            n = sock.recv_into(buf)
            if n == 0:
                raise OSError(f"closed after {at} bytes")
            right = right and body_is_right(buf[:n], at)
            at += n
            now = time.monotonic()
            if due and now >= due:
                series.append([round(now - start, 4), at])
                due = now + every
        out.update(bytes=at, seconds=now - start, server=fields.get("server"), cache=fields.get("cache-status"))
        if not right:
            raise OSError("the body is not what was sent")
    except OSError as e:
        out["error"] = str(e) or type(e).__name__
        out["seconds"] = time.monotonic() - start
    try:
        out["receiver"] = tcp_info(sock)
        if order.get("seconds"):
            # Broken off in the middle: what is under way must not come into the next transfer's.
            raise OSError
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(order.get("linger", 0.5))
        while sock.recv(PIECE):
            pass
    except OSError:
        # Nobody is to send FINs into the next transfer.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    if every:
        out["series"] = series
    tell(**out)


def fetch_all():
    tell(event="ready")
    while True:
        ready, _, _ = select.select([sys.stdin], [], [])
        line = ready[0].readline()
        if not line:
            return
        order = json.loads(line)
        if order.get("beside"):
            threading.Thread(target=fetch, args=(order,), daemon=True).start()
        else:
            fetch(order)


def main():
    verb, rest = sys.argv[1], sys.argv[2:]
    try:
        if verb == "serve":
            serve(rest[0], rest[1:])
        else:
            fetch_all()
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(0)


if __name__ == "__main__":
    main()
