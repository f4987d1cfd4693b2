"""A training step alone and beside busy processes, under several rules of how idle threads wait.

GNU OpenMP reads its environment once, so that each measurement is a process of its own: this module, run as a script.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from capsbench.benchmarks.measure import Measurement
from capsbench.models import ResNetCapsNet
from capsbench.routing import FMAgreement

NETWORK = "resnet_capsnet_small"
IMAGE_SHAPE = (1, 40, 40)
SPIN_COUNTS = (300, 3000, 10_000, 30_000)
"""Limits to compare with ours."""
VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
"""The caller's settings of threads, which no measurement inherits."""


def environments(spin_count: str) -> dict[str, dict[str, str]]:
    """Name the rules to compare, each with the environment variables that make it.

    Args:
        spin_count: our limit on how often a waiting thread looks again before it sleeps.
    """
    counts = sorted({*SPIN_COUNTS, int(spin_count)})
    return {
        "no limit": {},
        **{
            f"{count:,} turns{' (ours)' if count == int(spin_count) else ''}": {"GOMP_SPINCOUNT": str(count)}
            for count in counts
        },
        "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
        "one thread": {"OMP_NUM_THREADS": "1"},
    }


def benchmark_contention(
    ways: Mapping[str, Mapping[str, str]], repetitions: int, steps: int, batch_size: int = 64
) -> list[Measurement]:
    """Measure training steps of `resnet_capsnet_small` with FM, alone and beside one busy process per core.

    Args:
        ways: environment variables of each rule, by its name.
        repetitions: of each rule, in turn, alone and in company.
        steps: that count in each repetition; two before them do not.
        batch_size: images per step.

    Returns:
        Milliseconds per step; `size` is the number of busy processes.
    """
    companies = (0, os.cpu_count() or 1)
    times: dict[tuple[str, int], list[float]] = {(way, company): [] for way in ways for company in companies}
    for _ in range(repetitions):
        for company in companies:
            with _busy_processes(company):
                for way, variables in ways.items():
                    times[way, company].append(_in_new_process(variables, steps, batch_size))
    return [
        Measurement.of(values, NETWORK, "training step", "ms", router="fm", implementation=way, size=company)
        for (way, company), values in times.items()
    ]


@contextmanager
def _busy_processes(count: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _in_new_process(variables: Mapping[str, str], steps: int, batch_size: int) -> float:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    command = [sys.executable, "-m", "capsbench.benchmarks.contention", str(steps), str(batch_size)]
    done = subprocess.run(command, env=environment | dict(variables), stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def milliseconds_per_step(steps: int, batch_size: int) -> float:
    """Train on noise; return the mean time of a step, without the first two."""
    network = ResNetCapsNet(IMAGE_SHAPE, 10, FMAgreement, blocks=(1, 1, 1), hidden_capsules=())
    optimizer = torch.optim.Adam(network.parameters())
    images, labels = torch.rand(batch_size, *IMAGE_SHAPE), torch.arange(batch_size) % 10
    loss = torch.nn.CrossEntropyLoss()
    start = 0.0
    for step in range(steps + 2):
        if step == 2:
            start = time.perf_counter()
        optimizer.zero_grad()
        loss(network(images).activations, labels).backward()
        optimizer.step()
    return 1000 * (time.perf_counter() - start) / steps


if __name__ == "__main__":
    print(milliseconds_per_step(*map(int, sys.argv[1:])))
