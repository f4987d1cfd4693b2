"""Contention in miniature."""

import json
import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from capsbench.benchmarks import contention


@pytest.mark.engines
def test_a_step_is_measured_alone_and_in_company(find: Callable[..., float]) -> None:
    found = contention.benchmark_contention(
        {"our limit": {"GOMP_SPINCOUNT": "9"}}, repetitions=1, steps=1, batch_size=2
    )
    assert [one.size for one in found] == [0, os.cpu_count()]
    for size in (0, os.cpu_count()):
        assert find(found, router="fm", implementation="our limit", unit="ms", size=size) > 0


def test_each_rule_has_its_environment_and_nothing_of_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def run(command: list[str], *, env: dict[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        seen.append(json.dumps({name: env.get(name) for name in contention.VARIABLES}))
        return subprocess.CompletedProcess(command, 0, stdout="1.5\n")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(os, "cpu_count", lambda: 0)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    contention.benchmark_contention(contention.environments("3000"), repetitions=1, steps=1)
    alone = [json.loads(one) for one in seen[: len(seen) // 2]]
    assert alone[0] == {"GOMP_SPINCOUNT": None, "OMP_WAIT_POLICY": None, "OMP_NUM_THREADS": None}
    assert {"GOMP_SPINCOUNT": "3000", "OMP_WAIT_POLICY": None, "OMP_NUM_THREADS": None} in alone
    assert alone[-2:] == [
        {"GOMP_SPINCOUNT": None, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": None},
        {"GOMP_SPINCOUNT": None, "OMP_WAIT_POLICY": None, "OMP_NUM_THREADS": "1"},
    ]
