"""How long a benchmark may take."""

import dataclasses

from tests.benchmarks.inverse.metrics import BUDGET_SECONDS

__all__ = ["BUDGETS", "Budget"]


@dataclasses.dataclass(frozen=True)
class Budget:
    """What one run of a sampler may use.

    Attributes
    ----------
    validation_draws, test_draws : int
        Of each problem; enough independent draws end a run.
    validation_seconds : float
        Of each problem, for ours and for independent draws. deepinv's chains have ten, as in the
        tests, which have the ten seconds of the headline.
    """

    validation_draws: int
    validation_seconds: float
    test_draws: int

    def draws(self, stage: str) -> int:
        return self.test_draws if stage == "test" else self.validation_draws

    def seconds(self, stage: str) -> float:
        return BUDGET_SECONDS if stage == "test" else self.validation_seconds


BUDGETS = {"small": Budget(64, 2.5, 400), "full": Budget(128, 10.0, 1000)}
