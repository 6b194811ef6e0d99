"""What every mixer must keep, checked in seconds on a CPU: ``harness check``."""

from harness.conformance.scripted import Run, World, observation, problem
from harness.conformance.suite import TOY_TASK, Report, check

__all__ = ["TOY_TASK", "Report", "Run", "World", "check", "observation", "problem"]
