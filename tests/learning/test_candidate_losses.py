"""The losses on kept scores: which rows of the table they reach."""

import jax
import jax.numpy as jnp
import numpy as np

from hiertcn_jax.learning import losses
from hiertcn_jax.learning.candidate_losses import candidate_loss
from hiertcn_jax.learning.negatives import Candidates
from hiertcn_jax.learning.softmax_losses import cross_entropy
from hiertcn_jax.scoring.scores import Keys, Queries
from tests.random_model import EVENTS, LANES, random_model


def test_l2_equals_plain_numpy():
    u, table, _, item_ids, weight = random_model(4)
    distances = np.square(np.asarray(u) - np.asarray(table)[np.asarray(item_ids)]).sum(-1)
    expected = (np.asarray(weight) * distances).sum()
    found = losses.l2(Queries(u), Keys(table), item_ids, weight)
    np.testing.assert_allclose(found.total, expected, rtol=1e-5)


def test_weightless_events_do_not_reach_the_table():
    u, table, bias, item_ids, weight = random_model(5)
    bad_u = jnp.where(weight[..., None] > 0, u, jnp.nan)
    bad_ids = jnp.where(weight > 0, item_ids, 0)
    shared = jnp.array([2, 3, 4])
    own = jnp.broadcast_to(shared, (LANES, EVENTS, 3))

    def bpr(u, table, item_ids, candidates):
        found = Candidates(candidates, jnp.ones((LANES, EVENTS, 3), bool), None)
        keys = Keys(table, bias)
        return candidate_loss(losses.bpr, Queries(u), keys, item_ids, weight, [found]).total

    functions = {
        "cross_entropy": lambda u, t, i: cross_entropy(Queries(u), Keys(t, bias), i, weight).total,
        "l2": lambda u, t, i: losses.l2(Queries(u), Keys(t), i, weight).total,
        "shared": lambda u, t, i: bpr(u, t, i, shared),
        "own": lambda u, t, i: bpr(u, t, i, own),
    }
    for name, function in functions.items():
        gradient_of = jax.jit(jax.grad(function, (0, 1)))
        grads, bad_grads = gradient_of(u, table, item_ids), gradient_of(bad_u, table, bad_ids)
        for grad, bad_grad in zip(grads, bad_grads, strict=True):
            np.testing.assert_allclose(bad_grad, grad, rtol=1e-6, atol=1e-7, err_msg=name)
        assert np.all(np.asarray(bad_grads[0])[np.asarray(weight) == 0] == 0)
