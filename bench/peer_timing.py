"""Medians of repeated runs, as the Rust benchmark takes them."""

import statistics
import time


def median_seconds(work, budget=1.0):
    """The median over at least five runs of `work`, each long enough for the clock, within about `budget` seconds."""
    start = time.perf_counter()
    work()
    once = max(time.perf_counter() - start, 1e-7)
    batch = max(1, int(0.005 / once))
    samples = []
    deadline = time.perf_counter() + budget
    while len(samples) < 5 or (time.perf_counter() < deadline and len(samples) < 101):
        start = time.perf_counter()
        for _ in range(batch):
            work()
        samples.append((time.perf_counter() - start) / batch)
    return statistics.median(samples)
