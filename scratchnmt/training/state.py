"""Where a training run is, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files.run_folder import MODEL
from .progress import duration


@dataclass
class State:
    """Where a run is: with weights, optimizer and average, all that the next step depends on."""

    step: int = 0
    epoch: int = 0  # finished ones
    position: int = 0  # batches of the present epoch that are done
    tokens: int = 0  # target tokens
    seconds: float = 0.0  # at the last save
    nats: float = 0.0  # training loss since the last validation
    nats_tokens: int = 0  # target tokens that it is of
    validated_step: int = 0
    best_step: int = 0
    best_score: float | None = None
    misses: int = 0  # validations since the best one, or since the last reload
    trials: int = 0
    decay: float = 1.0  # what the trials have left of the learning rate
    average_updates: int = 0
    skipped: int = 0  # steps that were not finite
    skipped_in_a_row: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)  # the records of metrics.jsonl

    @property
    def best(self) -> dict[str, Any] | None:
        """The record of the best validation so far."""
        return next((record for record in self.history if record["step"] == self.best_step), None)


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended; str() is the report for people."""

    reason: str
    interrupted: bool
    folder: Path
    step: int
    seconds: float
    best: dict[str, Any] | None  # the record of the best validation

    def __str__(self) -> str:
        lines = [f"stopped at step {self.step} after {duration(self.seconds)}: {self.reason}"]
        if self.best:
            lines.append(f"best validation: perplexity {self.best['valid_ppl']:.2f}, BLEU "
                         f"{self.best['valid_bleu']:.2f} (greedy) at step {self.best['step']}, epoch "
                         f"{self.best['epoch']:g}; that model is saved in {self.folder / MODEL}")
        if self.interrupted:
            lines.append(f"everything is saved: the same command with --resume goes on from step {self.step}")
        return "\n".join(lines)
