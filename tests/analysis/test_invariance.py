"""Invariance of a network whose activations are known."""

import numpy as np
import pytest

from capsbench.analysis import measure_invariance
from capsbench.analysis.invariance import parameter_values
from capsbench.data import Digits
from capsbench.training import ClassificationModule


def test_accuracy_and_activation_along_each_parameter(module: ClassificationModule, digits: Digits) -> None:
    class Labelled(Digits):
        """Digits labelled with the side of their ink."""

        def setup(self, stage: str | None = None) -> None:
            super().setup(stage)
            _, activations = module.predict(self.test_images(self.splits["test"].images))
            self.splits["test"] = self.splits["test"]._replace(labels=activations.argmax(dim=1))

    data = Labelled()
    data.setup()
    curves = measure_invariance(module, data, steps=5)
    assert list(curves) == ["rotation", "shear", "scale_x", "scale_y", "shift_x", "shift_y"]
    shift = curves["shift_x"]
    assert shift.values == [-10, -5, 0, 5, 10]
    assert shift.accuracy[2] == 1
    left = (data.splits["test"].labels == 0).float().mean().item()
    assert shift.accuracy[0] == pytest.approx(left, abs=0.02)
    assert shift.accuracy[-1] == pytest.approx(1 - left, abs=0.02)
    assert shift.activation_change[2] == 0
    # The winner's activation falls from 1.1 to 0.1 where the digit is on the other side.
    assert shift.activation_change[0] == pytest.approx(-(1 - left) / 1.1, abs=0.02)
    assert curves["shift_y"].accuracy_area > 0.9  # not 1, since ink is cut off
    assert shift.accuracy_area == pytest.approx(np.trapezoid(shift.accuracy) / 4)
    assert shift.change_area == pytest.approx(np.trapezoid(np.abs(shift.activation_change)) / 4)


def test_ranges_are_twice_affnists() -> None:
    assert parameter_values("rotation", 40, 3) == [-40, 0, 40]
    assert parameter_values("scale_x", 40, 5) == [0.6, 0.8, 1.0, 1.2, 1.4]
    assert parameter_values("shift_x", 40, 3) == [-12, 0, 12]


@pytest.mark.parametrize("steps", [1, 4])
def test_steps_without_a_middle(module: ClassificationModule, digits: Digits, steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps must be an odd number of at least 3, got {steps}"):
        measure_invariance(module, digits, steps=steps)
