"""What answers for mixtures between the rows of a table."""

from collections.abc import Mapping

from tasks.surrogates.base import Surrogate
from tasks.surrogates.gaussian_process import GaussianProcess
from tasks.surrogates.trees import Trees

SURROGATES: Mapping[str, type[Surrogate]] = {family.name: family for family in (GaussianProcess, Trees)}
