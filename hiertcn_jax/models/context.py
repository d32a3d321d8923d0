"""What a model may know of events before they happen."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from hiertcn_jax.batch import PADDING_ID, Batch, NextEvent
from hiertcn_jax.memory.clock import session_progress


class Context(NamedTuple):
    """The events of a segment without their items; see `Batch` for the fields of the same names.

    Attributes:
      is_event_bl: False on padding.
      position_bl: Index in the session.
      user_position_bl: Index in the user's history.
      seconds_bl: Since the user's first event.
      session_bl: Index of the event's session in the segment.
      starts_session_bs: Whether the session starts in this segment.
      starts_user_bs: Whether a user starts with it.
      gap_hours_bs: Hours since the previous session.
    """

    is_event_bl: Bool[Array, "b l"]
    position_bl: Int[Array, "b l"]
    user_position_bl: Int[Array, "b l"]
    seconds_bl: Int[Array, "b l"]
    session_bl: Int[Array, "b l"]
    starts_session_bs: Bool[Array, "b s"]
    starts_user_bs: Bool[Array, "b s"]
    gap_hours_bs: Float[Array, "b s"]

    @classmethod
    def of_batch(cls, batch: Batch) -> "Context":
        """The context of a batch's events."""
        return cls(
            batch.item_ids_bl != PADDING_ID,
            batch.position_bl,
            batch.user_position_bl,
            batch.seconds_bl,
            batch.session_bl,
            batch.starts_session_bs,
            batch.starts_user_bs,
            batch.gap_hours_bs,
        )

    @classmethod
    def of_next_event(cls, event: NextEvent) -> "Context":
        """The context of one event per lane: segments of one event and one session."""
        position_bl, user_position_bl = event.position_b[:, None], event.user_position_b[:, None]
        return cls(
            jnp.ones_like(position_bl, bool),
            position_bl,
            user_position_bl,
            event.seconds_b[:, None],
            jnp.zeros_like(position_bl),
            position_bl == 0,
            user_position_bl == 0,
            event.gap_hours_b[:, None],
        )

    @property
    def events_b(self) -> Int[Array, " b"]:
        """Events of each lane in this segment; padding follows them."""
        return jnp.sum(self.is_event_bl, axis=1)


PROGRESS = 4
"""Number of values in `progress`."""
MOMENTS = PROGRESS + 4
"""Number of values in `moments`."""


def progress(context: Context) -> Float[Array, "b l g"]:
    """How far each event's session has come: `memory.clock.session_progress`."""
    gap_bl = jnp.take_along_axis(context.gap_hours_bs, context.session_bl, axis=1)
    return session_progress(context.position_bl, gap_bl)


def moments(context: Context, clock_blg: Float[Array, "b l g"]) -> Float[Array, "b l g2"]:
    """What is known of each event's moment: `progress`, and the clock."""
    return jnp.concatenate([progress(context), clock_blg], axis=-1)
