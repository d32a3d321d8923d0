"""Computes sizes of a batch, epochs and patience from the log, for flags that are `auto`.

Only counts of the manifest decide, so the same log gives the same sizes on every machine, in every
process, and when a run resumes.

    lanes x events   at least 100 steps an epoch, but batches of 512 to 8,192 event slots
    sessions         1.5 times the sessions that this many events have on average
    epochs           10, or as many as make 500 steps
    patience         as many evaluations as make 2 epochs and 200 steps
"""

import dataclasses
import math

from experiments.runs.config import TrainConfig

_STEPS_PER_EPOCH = 100
"""With large batches a small log gives too few steps to learn from: RetailRocket in batches of
8,192 has one step an epoch."""

_LEAST_SLOTS, _MOST_SLOTS = 512, 8192
"""Smaller batches cost time without a gain; larger ones need a higher learning rate."""

_SHORT, _LONG = 32, 64
"""Events of a segment. Small batches get short segments, so that more lanes see different users."""

_SESSIONS_TO_SPARE = 1.5
"""Room for variation in the length of sessions. With 1.5 times the average, 97 % of the slots of
EB-NeRD hold an event, the least of five logs; with exactly the average, 85 %."""

_SESSIONS_STEP = 8

_EPOCHS, _LEAST_STEPS = 10, 500

_PATIENT_EPOCHS, _PATIENT_STEPS = 2, 200


def fit_sizes(train: TrainConfig, events: int, sessions: int, shares: int = 1) -> TrainConfig:
    """Replaces each `auto` by a number; numbers do not change.

    Args:
      train: The settings.
      events: Events of the fitted parts.
      sessions: Their sessions.
      shares: Devices that share the lanes; it will divide them.
    """
    number_of_epochs_is_open = train.epochs == "auto" and not train.steps
    train = _fit_batch(train, events, sessions, shares)
    bucket = train.bucket
    steps_per_epoch = max(1, math.ceil(events / (bucket.lanes * bucket.events)))
    if train.epochs == "auto":
        epochs = max(_EPOCHS, math.ceil(_LEAST_STEPS / steps_per_epoch))
        train = dataclasses.replace(train, epochs=epochs)
    if train.patience == "auto":
        patient_epochs = max(_PATIENT_EPOCHS, _PATIENT_STEPS / steps_per_epoch)
        patience = math.ceil(patient_epochs / train.eval_every_epochs)
        patience = patience if number_of_epochs_is_open else 0
        train = dataclasses.replace(train, patience=patience)
    return train


def _fit_batch(train: TrainConfig, events: int, sessions: int, shares: int) -> TrainConfig:
    """The settings with a shape for batches."""
    slots = 1 << max(1, events // _STEPS_PER_EPOCH).bit_length() - 1
    slots = min(max(slots, _LEAST_SLOTS), _MOST_SLOTS)
    if train.events == "auto":
        is_long = slots > _LEAST_SLOTS
        train = dataclasses.replace(train, events=_LONG if is_long else _SHORT)
    length = train.number("events")
    if train.lanes == "auto":
        train = dataclasses.replace(train, lanes=shares * math.ceil(slots / length / shares))
    if train.sessions == "auto":
        wanted = _SESSIONS_TO_SPARE * length * sessions / max(events, 1)
        wanted = _SESSIONS_STEP * math.ceil(wanted / _SESSIONS_STEP)
        train = dataclasses.replace(train, sessions=min(max(wanted, 1), length))
    return train
