"""Table 1 in miniature."""

from capsbench.benchmarks.table1 import benchmark_table1


def test_each_router_and_shape_is_measured_and_compared() -> None:
    measured = benchmark_table1(repetitions=2, batch_size=1)
    for data in ("CIFAR-10", "Fashion-MNIST"):
        for router in ("dynamic(1)", "dynamic(3)", "FM"):
            spread = measured[f"{data}, CPU, {router}: ms"]
            assert 0 < spread["least"] <= spread["median"] <= spread["most"]
        assert measured[f"{data}, CPU, dynamic(3) ÷ FM"]["median"] > 0
