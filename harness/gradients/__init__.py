"""Domain gradients read off the one ordinary backward pass.

:class:`GradientTracker` is what the trainer holds; :class:`RoundGradients` is what a mixer sees. The two ways of
summing a layer's gradients by domain are in :mod:`~harness.gradients.exact` and :mod:`~harness.gradients.sketch`.
"""

from harness.gradients.layer import GradientTrackingError, Step, last_layers
from harness.gradients.tracker import GradientTracker
from harness.gradients.view import RoundGradients

__all__ = ["GradientTracker", "GradientTrackingError", "RoundGradients", "Step", "last_layers"]
