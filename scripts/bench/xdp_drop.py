#!/usr/bin/env python3
"""A sink: every frame that arrives on an interface is dropped by an XDP program of two instructions, before the kernel
makes anything of it.

usage: xdp_drop.py INTERFACE      in the namespace that it runs in; says "ready", and ends on SIGTERM or Ctrl-C

It is attached with BPF_LINK_CREATE: when this process ends, however it ends, the kernel detaches it. No compiler, no
library: bpf(2) through ctypes. Needs root.
"""

import ctypes
import os
import platform
import signal
import socket
import struct
import sys

# Of bpf(2): commands, and kinds of programs and attachments (linux/bpf.h).
BPF_PROG_LOAD, BPF_LINK_CREATE = 5, 28
BPF_PROG_TYPE_XDP, BPF_XDP = 6, 37
XDP_DROP = 1
# In the driver where it can, else in front of the stack (linux/if_link.h).
XDP_FLAGS_SKB_MODE, XDP_FLAGS_DRV_MODE = 2, 4
CALLS = {"x86_64": 321, "aarch64": 280}


def bpf(command, attributes):
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    fd = libc.syscall(CALLS[platform.machine()], command, buffer, len(attributes))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd


def load():
    # r0 = XDP_DROP; exit
    program = struct.pack("<BBhi", 0xB7, 0, 0, XDP_DROP) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    instructions = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "<IIQQIIQIIII16sIi",
        BPF_PROG_TYPE_XDP,
        len(program) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
        0, 0, 0, 0, 0, 0, 0,
        b"drop",
        0,
        BPF_XDP,
    )
    return bpf(BPF_PROG_LOAD, attributes)


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    if platform.machine() not in CALLS:
        print(f"xdp_drop.py: the number of bpf(2) on {platform.machine()} is not known here", file=sys.stderr)
        return 1
    try:
        interface = socket.if_nametoindex(sys.argv[1])
    except OSError:
        print(f"xdp_drop.py: no interface {sys.argv[1]} in this namespace", file=sys.stderr)
        return 1
    try:
        program = load()
    except OSError as e:
        print(f"xdp_drop.py: the kernel does not take the program: {e.strerror}", file=sys.stderr)
        return 1
    for mode, flags in (("in the driver", XDP_FLAGS_DRV_MODE), ("generic", XDP_FLAGS_SKB_MODE)):
        try:
            bpf(BPF_LINK_CREATE, struct.pack("<IIII", program, interface, BPF_XDP, flags) + bytes(48))
            break
        except OSError as e:
            why = e.strerror
    else:
        print(f"xdp_drop.py: cannot attach to {sys.argv[1]}: {why}", file=sys.stderr)
        return 1
    print(f"ready: XDP_DROP on {sys.argv[1]}, {mode}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    return 0


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    sys.exit(main())
