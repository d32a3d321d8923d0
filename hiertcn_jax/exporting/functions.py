"""The two functions that are exported: take in an event of each user, and score the items.

Each works on many users, one event each, and names all its arguments. They are the model's own
`observe` and `predict`, with rows of one event:

    observe(weights, event, carry) -> carry
    score(weights, moment, lists, carry, excluded, allowed) -> vectors, scores
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hiertcn_jax.batch import Batch, NextEvent
from hiertcn_jax.item_ids import FIRST_ITEM_ID
from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.memory.lists import FEATURES
from hiertcn_jax.models.common import SequenceModel
from hiertcn_jax.models.context import Context
from hiertcn_jax.models.queries import next_queries
from hiertcn_jax.scoring.scores import Keys

CLOCK = 4
"""Numbers that say the time of the day and of the week (`memory.clock`)."""


class Exported(NamedTuple):
    """A function to export.

    Attributes:
      function: Takes a dict of weights, then arrays.
      weights: Their shapes, by name.
      inputs: The arrays' names and shapes, in order.
      outputs: Names of what it returns.
    """

    function: Any
    weights: dict[str, jax.ShapeDtypeStruct]
    inputs: dict[str, jax.ShapeDtypeStruct]
    outputs: tuple[str, ...]

    def traced(self) -> Any:
        """The function as JAX traces it."""
        return jax.jit(self.function).trace(self.weights, *self.inputs.values())


def _array(*shape: Any, kind: Any = np.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, kind)


def flat_weights(params: Any) -> dict[str, Any]:
    """The parameters of a model by name, such as `model/gru/layer_0/recurrent`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {"/".join(["model", *(str(key.key) for key in path)]): leaf for path, leaf in leaves}


def nested_weights(weights: dict[str, Any]) -> Any:
    """The reverse of `flat_weights`; ignores arrays that are not weights of the model."""
    tree: dict[str, Any] = {}
    for name, leaf in weights.items():
        if name.startswith("model/"):
            *inner, last = name.split("/")[1:]
            place = tree
            for key in inner:
                place = place.setdefault(key, {})
            place[last] = leaf
    return tree


def _carry_of(model: SequenceModel, users: Any) -> tuple[Any, dict[str, jax.ShapeDtypeStruct]]:
    """The structure of a model's carry, and its arrays for this many users."""
    leaves, structure = jax.tree.flatten(jax.eval_shape(lambda: model.init_carry(1)))
    arrays = {
        f"carry_{number}": _array(users, *leaf.shape[1:], kind=leaf.dtype)
        for number, leaf in enumerate(leaves)
    }
    return structure, arrays


def _moment(users: Any) -> dict[str, jax.ShapeDtypeStruct]:
    whole = _array(users, kind=np.int32)
    return {
        "position": whole,
        "user_position": whole,
        "seconds": whole,
        "gap_hours": _array(users),
    }


def _observe(model: SequenceModel, event: NextEvent, rows_vd: Any, item_b: Any, carry: Any) -> Any:
    """`SequenceModel.observe` of rows of one event, none of which is padding."""
    context = Context.of_next_event(event)
    nothing = jnp.zeros_like(item_b[:, None])
    batch = Batch(
        item_ids_bl=item_b[:, None],
        position_bl=context.position_bl,
        user_position_bl=context.user_position_bl,
        seconds_bl=context.seconds_bl,
        session_bl=context.session_bl,
        starts_session_bs=context.starts_session_bs,
        starts_user_bs=context.starts_user_bs,
        gap_hours_bs=context.gap_hours_bs,
        loss_weight_bl=nothing,
        scored_bl=nothing,
    ).with_embeddings(rows_vd)
    before, carry = model.take_items(context, *model.read_items(batch, False), carry)
    return model.run(context, before, carry, False)[1]


def observe_function(model: SequenceModel, weights: dict[str, jax.ShapeDtypeStruct]) -> Exported:
    """The carry of each user after an event.

    Args:
      model: The model.
      weights: Of it, and `items`: the rows that it reads.
    """
    (users,) = jax.export.symbolic_shape("users")
    structure, carry = _carry_of(model, users)

    def observe(
        weights: dict[str, Any],
        item: Any,
        position: Any,
        user_position: Any,
        seconds: Any,
        gap_hours: Any,
        *carry: Any,
    ) -> Any:
        event = NextEvent(position, user_position, seconds, gap_hours)
        variables = {"params": nested_weights(weights)}
        before = jax.tree.unflatten(structure, carry)
        after = model.apply(variables, event, weights["items"], item, before, method=_observe)
        return tuple(jax.tree.leaves(after))

    inputs = {"item": _array(users, kind=np.int32), **_moment(users), **carry}
    return Exported(observe, weights, inputs, tuple(f"next_{name}" for name in carry))


def score_function(model: SequenceModel, weights: dict[str, jax.ShapeDtypeStruct]) -> Exported:
    """The users' vectors, and the scores of all rows at each user's next event.

    Rows that must not be recommended score -inf: those that are no items, those that nobody may
    get, and those that the user's own list excludes.

    Args:
      model: The model.
      weights: Of it, and `item_rows` and perhaps `item_bias`: what items are scored with.
    """
    users, excluded = jax.export.symbolic_shape("users, excluded")
    structure, carry = _carry_of(model, users)
    rows = weights["item_rows"].shape[0]
    lists: dict[str, jax.ShapeDtypeStruct] = {}
    if model.config.memory:
        lists = {
            "memory_items": _array(users, SIZES.candidates, kind=np.int32),
            "memory_counts": _array(users, SIZES.candidates, len(FEATURES)),
            "clock": _array(users, CLOCK),
        }
    is_item_v = np.arange(rows) >= FIRST_ITEM_ID

    def score(weights: dict[str, Any], *arrays: Any) -> tuple[Any, Any]:
        named = dict(zip(inputs, arrays, strict=True))
        event = NextEvent(*(named[name] for name in (*_moment(users), *lists)))
        carry_now = jax.tree.unflatten(structure, [named[name] for name in carry])
        queries = next_queries(model, nested_weights(weights), event, carry_now)
        keys = Keys(weights["item_rows"], weights.get("item_bias"))
        scores = jnp.einsum(
            "bd,vd->bv",
            queries.vectors,
            keys.rows,
            precision=jax.lax.Precision.HIGHEST,
            preferred_element_type=jnp.float32,
        )
        # -inf where nobody may get the item, whatever is added: a pass over v numbers, not b v.
        scores += jnp.where(
            named["allowed"] & is_item_v, 0.0 if keys.bias is None else keys.bias, -jnp.inf
        )
        if (listed := queries.listed) is not None:
            values = jnp.where(listed.is_item(), listed.values, 0)
            scores = jax.vmap(lambda row, place, more: row.at[place].add(more))(
                scores, listed.item_ids, values
            )
        scores = jax.vmap(lambda row, place: row.at[place].set(-jnp.inf))(scores, named["excluded"])
        return queries.vectors, scores

    inputs = {
        **_moment(users),
        **lists,
        **carry,
        "excluded": _array(users, excluded, kind=np.int32),
        "allowed": _array(rows, kind=np.bool_),
    }
    return Exported(score, weights, inputs, ("vectors", "scores"))


def best_function(scoring: Exported, k: int) -> Exported:
    """`score_function`, then the k best: their rows and scores, and the users' vectors."""

    def best(weights: dict[str, Any], *arrays: Any) -> tuple[Any, Any, Any]:
        vectors, scores = scoring.function(weights, *arrays)
        found, rows = jax.lax.top_k(scores, k)
        return rows.astype(jnp.int32), found, vectors

    return Exported(best, scoring.weights, scoring.inputs, ("rows", "scores", "vectors"))
