"""The parts of scripts/bench/goodput: cells, rig, the two ends of a transfer, figures, reports."""
