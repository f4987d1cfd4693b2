"""The Ray cluster that runs are handed to: where it is, whether it answers, and what it has."""

import contextlib
import os
import socket
from collections.abc import Mapping, Sequence

from omegaconf import DictConfig, open_dict

from capsbench import signals
from capsbench.launch.errors import describe
from capsbench.launch.sweep import PlannedRun
from capsbench.runs import SWEEP

OBJECT_STORE = 78_643_200
"""Bytes of shared memory, as Hydra's launcher asks for: runs share no objects."""
PASSED_ON = (
    *(SWEEP, "CAPSBENCH_DATA", "OMP_NUM_THREADS", "GOMP_SPINCOUNT"),
    *("WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT", "WANDB_ENTITY"),
)
"""Environment variables that mean the same in workers on any machine."""
CONNECT_S = 5.0
"""Seconds within which a cluster has to answer."""


def start_ray(settings: DictConfig) -> str | None:
    """Connect to a cluster, or start one here, and take the signals back that Ray then takes for itself.

    Args:
        settings: of `ray.init`.

    Returns:
        HOST:PORT of a cluster that runs by itself.

    Raises:
        ConnectionError: nothing answers there.
    """
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # Ray would show the lines of one run for those of several

    import ray
    from hydra_plugins.hydra_ray_launcher._launcher_util import start_ray as start  # of an optional package

    address = None
    if not ray.is_initialized():
        address = _address(settings.get("address"))
        if address is None and settings.get("object_store_memory") is None:
            settings.object_store_memory = OBJECT_STORE
        elif address is not None and not answers(address):
            raise ConnectionError(
                f"no Ray cluster answers at {address}, which hydra.launcher.ray.init.address={settings.address} means; "
                "start one with ray start --head, or leave that setting out to train on this machine"
            )
        with open_dict(settings):
            settings.runtime_env.env_vars.update({name: os.environ[name] for name in PASSED_ON if name in os.environ})
        start(settings)
    signals.install()
    return address


def _address(said: str | None) -> str | None:
    """HOST:PORT of the cluster that an address means; None: one that is started here."""
    from ray._private.services import canonicalize_bootstrap_address

    host = str(said).removeprefix("ray://")
    if host != said or said == "local":
        return None if said == "local" else host
    try:
        found: str | None = canonicalize_bootstrap_address(said)
    except Exception as error:
        raise ConnectionError(f"hydra.launcher.ray.init.address={said} is no address: {describe(error)}") from error
    if found is None and said == "auto":
        raise ConnectionError(
            "no Ray cluster runs on this machine, as hydra.launcher.ray.init.address=auto says; start one with ray "
            "start --head, name another HOST:PORT, or leave that setting out to train on this machine"
        )
    return found


def answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError):
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
        return True
    return False


def check_kind(config: DictConfig, runs: Sequence[PlannedRun]) -> None:
    """Refuse to train on the CPUs of a cluster with GPUs unless that was asked for.

    Raises:
        ValueError: `trainer.accelerator=auto` was decided by a machine without a GPU, and the cluster has some.
    """
    import ray

    there = ray.cluster_resources().get("GPU", 0)  # type: ignore[no-untyped-call]
    of_cpus = any(run.identity.settings["devices"]["kind"] == "cpu" for run in runs)
    if there and of_cpus and str(config.trainer.accelerator) == "auto":
        raise ValueError(
            f"the cluster has GPUs ({there:g}), and this machine none that trainer.accelerator=auto could mean; set "
            "trainer.accelerator=gpu, or trainer.accelerator=cpu to train on CPUs"
        )


def check_resources(asked: Mapping[str, float]) -> None:
    """Check that a node of the cluster has, when it is free, what a run asks for; else the run would wait for ever.

    Raises:
        ValueError: none has.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if any(all(node.get(name, 0) >= number for name, number in asked.items()) for node in nodes):
        return
    wants, *have = (
        " and ".join(f"{each.get(name, 0):g} {name}" for name, number in asked.items() if number)
        for each in (asked, *nodes)
    )
    raise ValueError(
        f"a run asks Ray for {wants}, and no node of the cluster has that, but {' or '.join(sorted(set(have)))}; "
        "lower hydra.launcher.ray.remote.num_cpus or gpus_per_run, or set wait=true if the cluster will grow"
    )
