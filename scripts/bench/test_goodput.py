"""Tests of goodput's parts: python3 -m unittest scripts/bench/test_goodput.py"""

import json
import pathlib
import random
import statistics
import struct
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parent))
from transfers import cells, ends, figures, runs, tables, traces  # noqa: E402


def row(sender, seed, goodput, cell="5mb-100mbit-20ms-loss0.1", void=False, attempt=1, **more):
    return {
        "cell": cell, "sender": sender, "seed": seed, "goodput_mbit": goodput, "retransmits": 3, "void": void, "attempt": attempt,
        "error": None, "load": 1.0, "void_reasons": [], **more,
    }


class Figures(unittest.TestCase):
    def test_a_void_run_counts_for_nothing_and_its_repetition_for_all(self):
        rows = [row("linux-cubic", 1, 10, void=True), row("linux-cubic", 1, 20, attempt=2), row("linux-cubic", 2, 30, void=True)]
        self.assertEqual([r["goodput_mbit"] for r in figures.good(rows)], [20])

    def test_ratios_are_of_pairs(self):
        cell = "5mb-100mbit-20ms-loss0.1"
        rows = [row("a", 1, 10), row("b", 1, 20), row("a", 2, 90), row("b", 2, 30), row("a", 3, 5), row("b", 4, 5), row("b", 5, 0), row("a", 5, 1)]
        self.assertEqual(figures.ratios(rows, cell, "a", "b"), [0.5, 3.0])
        self.assertIsNone(figures.ratio(rows, cell, "a", "c"))
        self.assertEqual(figures.ratio(rows, cell, "a", "b")["pairs"], 2)

    def test_the_interval_repeats_and_holds_the_median(self):
        values = [0.8 + 0.02 * n for n in range(25)]
        low, high = figures.interval(values)
        self.assertEqual((low, high), figures.interval(values))
        self.assertTrue(min(values) < low < statistics.median(values) < high < max(values))
        self.assertEqual(figures.interval([1.5] * 25), (1.5, 1.5))
        self.assertIsNone(figures.interval([]))

    def test_the_interval_covers_what_it_is_of(self):
        # Of 80 samples of 25 values around 1, about 76 intervals should hold the true median.
        rng = random.Random(7)
        held = 0
        for _ in range(80):
            low, high = figures.interval([rng.gauss(1, 0.3) for _ in range(25)], resamples=200)
            held += low <= 1 <= high
        self.assertTrue(70 <= held <= 79, held)

    def test_the_verdict_is_the_goals(self):
        rows = [row("linux-cubic", n, 10) for n in range(25)] + [row("ours-cubic", n, 10 + n % 3) for n in range(25)]
        other = "5mb-100mbit-20ms-loss1"
        names = ["5mb-100mbit-20ms-loss0.1", other]
        self.assertTrue(figures.verdict(rows, names, "ours-cubic", "linux-cubic")["met"])
        rows += [row("linux-cubic", n, 10, other) for n in range(25)] + [row("ours-cubic", n, 9.9, other) for n in range(25)]
        v = figures.verdict(rows, names, "ours-cubic", "linux-cubic")
        self.assertEqual((v["met"], v["behind"]), (False, [other]))
        self.assertFalse(figures.verdict([], names, "ours-cubic", "linux-cubic")["met"])

    def test_jain_is_between_one_nth_and_one(self):
        self.assertEqual(figures.jain([5, 5]), 1.0)
        self.assertEqual(figures.jain([1, 0]), 0.5)
        self.assertAlmostEqual(figures.jain([3, 1]), 0.8)
        self.assertIsNone(figures.jain([0, 0]))

    def test_the_steady_rate_is_that_between_two_times(self):
        series = [[0.5, 0], [1.0, 1_000_000], [2.0, 3_000_000], [3.0, 5_000_000]]
        self.assertAlmostEqual(figures.steady_mbit(series, 1.0, 3.0), 16.0)
        self.assertAlmostEqual(figures.steady_mbit(series, 1.5, 2.5), 16.0)
        self.assertEqual(figures.steady_mbit(series, 4.0, 5.0), 0.0)
        self.assertEqual(figures.steady_mbit([], 1.0, 2.0), 0.0)

    def test_quantiles_are_those_of_the_samples(self):
        self.assertEqual([figures.quantile(range(1, 101), q) for q in (0, 0.5, 0.95, 1)], [1, 50, 95, 100])
        self.assertIsNone(figures.quantile([], 0.5))


class Plan(unittest.TestCase):
    def test_every_sender_takes_every_place_as_often(self):
        senders = cells.DEFAULT_SENDERS
        places = {s: [cells.order(senders, seed).index(s) for seed in range(1, 26)] for s in senders}
        for taken in places.values():
            self.assertEqual(sorted(taken), sorted(list(range(5)) * 5))
        self.assertNotEqual(cells.order(senders, 1), cells.order(senders, 6))

    def test_each_impairment_stands_at_least_twice(self):
        text = [" ".join(c.words) for c in cells.CELLS]
        self.assertEqual(len(cells.CELLS), 12)
        self.assertEqual(len(cells.BY_NAME), 12)
        for part in ("rate 100mbit", "rate 1000mbit", "delay 500us", "delay 10000us", "delay 50000us", "loss 0.1%", "loss 1%",
                     "reorder 1%", "duplicate 1%", "limit 20ms", "limit 40ms"):
            self.assertGreaterEqual(sum(part in t for t in text), 2, part)
        for size in (100_000, 5_000_000):
            self.assertGreaterEqual(sum(c.size == size for c in cells.CELLS), 2)
        self.assertGreaterEqual(sum("loss" not in t for t in text), 2)

    def test_a_run_goes_on_where_it_was_broken_off(self):
        with tempfile.TemporaryDirectory() as folder:
            rows = runs.Rows(pathlib.Path(folder), False)
            rows.add(row("ours", 1, 10))
            rows.add(row("ours", 2, 10, void=True))
            rows.add(row("ours", 3, 10, void=True))
            rows.add(row("ours", 3, 10, void=True, attempt=2))
            with open(rows.file, "a") as f:
                f.write('{"cell": "half a li')
            again = runs.Rows(pathlib.Path(folder), True)
            self.assertEqual({(s, n) for _, n, s in again.done}, {("ours", 1), ("ours", 3)})
            again.add(row("ours", 2, 11))
            self.assertEqual(len(runs.read_rows(rows.file)), 5)
            with self.assertRaises(Exception):
                runs.Rows(pathlib.Path(folder), False)


class Bodies(unittest.TestCase):
    def test_a_shifted_body_is_seen(self):
        whole = bytes(ends.PATTERN[: ends.PIECE])
        self.assertTrue(ends.body_is_right(whole[1000:9000], 1000))
        self.assertTrue(ends.body_is_right(whole[1000:9000], 1000 + 7 * ends.PERIOD))
        self.assertFalse(ends.body_is_right(whole[1001:9000], 1000))
        self.assertFalse(ends.body_is_right(whole[1000:9000], 1000 + 65536))


class Captures(unittest.TestCase):
    def frame(self, sport, dport, seq, ack, flags, payload=0, options=b""):
        options += b"\1" * (-len(options) % 4)
        tcp = struct.pack(">HHIIBBHHH", sport, dport, seq, ack, (5 + len(options) // 4) << 4, flags, 1000, 0, 0) + options
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp) + payload, 0, 0, 64, 6, 0, bytes([10, 0, 0, sport % 250]), bytes([10, 0, 0, dport % 250]))
        return b"\0" * 12 + b"\x08\x00" + ip + tcp

    def test_what_was_sent_again_is_told(self):
        isn = 0xFFFF_FF00  # so that the numbers wrap
        at = lambda n: (isn + n) % (1 << 32)  # noqa: E731
        sack = struct.pack(">BBII", 5, 10, at(1001), at(2001))
        frames = [
            (0.0, self.frame(1, 2, isn, 5, traces.SYN | traces.ACK)),
            (0.1, self.frame(1, 2, at(1), 5, traces.ACK, 1000)),
            (0.1, self.frame(1, 2, at(1001), 5, traces.ACK, 1000)),
            (0.2, self.frame(2, 1, 5, at(1), traces.ACK, 0, sack)),
            (0.3, self.frame(1, 2, at(1), 5, traces.ACK, 1000)),
            (0.4, self.frame(1, 2, at(1001), 5, traces.ACK, 1000)),
            (0.5, self.frame(2, 1, 5, at(2001), traces.ACK)),
        ]
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "x.pcap")
            with open(file, "wb") as f:
                f.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1))
                for when, frame in frames:
                    f.write(struct.pack("<IIII", int(when), round(when % 1 * 1e9), len(frame), len(frame)) + frame)
            sender = traces.follow(traces.longest(file), 0.1)
        self.assertEqual((sender.segments, sender.bytes, sender.again, sender.needless), (4, 2000, 2, 1))
        self.assertEqual(sender.una, 2001)
        self.assertTrue(any("SACKed" in text for _, text in sender.events))


class Whole(unittest.TestCase):
    def test_a_report_is_written_with_its_rows(self):
        with tempfile.TemporaryDirectory() as folder:
            out, docs = pathlib.Path(folder, "out"), pathlib.Path(folder, "docs")
            out.mkdir()
            rows = [row(s, n, 50 + n) for s in cells.DEFAULT_SENDERS for n in range(1, 6)] + [row("ours-bbr", 9, 1, void=True)]
            (out / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
            series = [[0.1 * n, 600_000 * n] for n in range(1, 100)]
            fair = {
                "path": cells.PATHS[0].name, "pair": ["ours-cubic", "linux-cubic"], "seed": 1, "seconds": 9, "errors": [None, None],
                "series": [series, series], "pings": [[n * 0.1, 30.0] for n in range(90)], "void": False,
            }
            (out / "fairness.jsonl").write_text(json.dumps(fair) + "\n")
            text = "\n".join(tables.text(out, docs))
            written = list(docs.glob("*-goodput.md"))
            self.assertEqual(written[0].read_text().strip(), text.strip())
            self.assertEqual(len((docs / written[0].stem / "rows.jsonl").read_text().splitlines()), len(rows))
        self.assertIn("1.00 (1.00–1.00)", text)
        self.assertIn("**met**", text)
        self.assertIn("1 runs were void", text)
        self.assertIn("48.0 + 48.0", text)
        self.assertIn("| 50 % | 1.000", text)
        for line in text.splitlines():
            if line.startswith("| `5mb"):
                self.assertIn(line.count("|"), (11, 7, 3))


if __name__ == "__main__":
    unittest.main()
