"""The paths and objects that are measured, and who sends."""

from dataclasses import dataclass

MB = 1_000_000
OBJECTS = {"100kb": 100_000, "5mb": 5 * MB, "150mb": 150 * MB}


@dataclass(frozen=True)
class Cell:
    """An object over a path. All words hold in both directions: ACKs are lost and late too."""

    name: str
    size: int
    rate: str
    rtt_ms: float
    queue_ms: int
    faults: str = ""
    # What a transfer takes at least, for the estimate of the whole run; measured, with Linux CUBIC.
    seconds: float = 1.0

    @property
    def words(self):
        """For scripts/lab/link."""
        return f"rate {self.rate} delay {self.rtt_ms * 500:g}us limit {self.queue_ms}ms {self.faults}".split()

    @property
    def rate_bps(self):
        return int(self.rate.removesuffix("mbit")) * 1_000_000

    @property
    def title(self):
        size = f"{self.size // 1000} KB" if self.size < MB else f"{self.size // MB} MB"
        faults = f", {self.faults}" if self.faults else ""
        return f"{size}, {self.rate_bps // 1_000_000} Mbit/s, {self.rtt_ms:g} ms, queue {self.queue_ms} ms{faults}"


# The queue of a cell that is not about its queue is 100 ms long.
CELLS = [
    Cell("5mb-100mbit-20ms-loss0.1", 5 * MB, "100mbit", 20, 100, "loss 0.1%", 1.0),
    Cell("5mb-100mbit-20ms-loss1", 5 * MB, "100mbit", 20, 100, "loss 1%", 3.0),
    Cell("5mb-100mbit-100ms-loss0.1", 5 * MB, "100mbit", 100, 100, "loss 0.1%", 3.0),
    Cell("5mb-100mbit-20ms-queue20ms", 5 * MB, "100mbit", 20, 20, "", 0.7),
    Cell("5mb-100mbit-100ms-queue40ms", 5 * MB, "100mbit", 100, 40, "", 1.5),
    Cell("5mb-1gbit-20ms-queue40ms", 5 * MB, "1000mbit", 20, 40, "", 0.4),
    Cell("5mb-1gbit-1ms-loss0.1", 5 * MB, "1000mbit", 1, 100, "loss 0.1%", 0.3),
    Cell("5mb-100mbit-1ms-queue20ms", 5 * MB, "100mbit", 1, 20, "", 0.6),
    Cell("5mb-100mbit-20ms-reorder1", 5 * MB, "100mbit", 20, 100, "reorder 1% 2ms", 0.7),
    Cell("5mb-100mbit-20ms-dup1", 5 * MB, "100mbit", 20, 100, "duplicate 1%", 0.7),
    Cell("100kb-100mbit-100ms-loss1", 100_000, "100mbit", 100, 100, "loss 1%", 0.8),
    Cell("100kb-100mbit-20ms-reorder1-dup1", 100_000, "100mbit", 20, 100, "reorder 1% 2ms duplicate 1%", 0.3),
]
BY_NAME = {c.name: c for c in CELLS}

# What a transfer costs besides itself: the link's start and end, the connection's.
OVERHEAD_S = 0.35


@dataclass(frozen=True)
class Sender:
    """Who sends: our node or the kernel, on a port of its own, with an algorithm."""

    name: str
    ours: bool
    port: int
    algorithm: str


SENDERS = [
    Sender("ours-cubic", True, 8001, "cubic"),
    Sender("ours-bbr", True, 8002, "bbr"),
    Sender("ours-reno", True, 8003, "reno"),
    # A node that knows no algorithms: whatever it has.
    Sender("ours", True, 8004, ""),
    Sender("linux-cubic", False, 8001, "cubic"),
    Sender("linux-cubic-2", False, 8002, "cubic"),
    Sender("linux-bbr", False, 8003, "bbr"),
]
SENDER = {s.name: s for s in SENDERS}
DEFAULT_SENDERS = ["ours-cubic", "ours-bbr", "linux-cubic", "linux-cubic-2", "linux-bbr"]
BASE = "linux-cubic"


def order(senders, seed):
    """Who sends first under a seed: each takes each place equally often, and not always behind the same one."""
    n, seed = len(senders), seed - 1
    turned = senders[seed % n :] + senders[: seed % n]
    return turned if (seed // n) % 2 == 0 else turned[::-1]


def estimate_s(cells, senders, seeds):
    return sum(c.seconds + c.rtt_ms * 2e-3 + OVERHEAD_S for c in cells) * len(senders) * seeds


# --- fairness -----------------------------------------------------------------------------------------------

PATHS = [
    Cell("100mbit-20ms-queue40ms", OBJECTS["150mb"], "100mbit", 20, 40),
    Cell("100mbit-50ms-queue40ms", OBJECTS["150mb"], "100mbit", 50, 40),
]


def pairs(algorithms):
    """Who shares a bottleneck with whom; without algorithms in our node, it as it is."""
    if not algorithms:
        return [["ours", "ours"], ["ours", "linux-cubic"], ["linux-cubic", "linux-cubic"], ["linux-bbr", "linux-bbr"]]
    return [
        ["ours-cubic", "ours-cubic"], ["ours-cubic", "linux-cubic"], ["linux-cubic", "linux-cubic"],
        ["ours-bbr", "ours-bbr"], ["ours-bbr", "linux-bbr"], ["linux-bbr", "linux-bbr"],
        ["ours-bbr", "linux-cubic"], ["linux-bbr", "linux-cubic"],
    ]
