"""All rankers by name."""

from collections.abc import Callable

from hiertcn_jax.baselines import Ranker
from hiertcn_jax.baselines.item_knn import ItemKNN
from hiertcn_jax.baselines.markov import Markov
from hiertcn_jax.baselines.popularity import Popularity
from hiertcn_jax.baselines.recent_items import MaxItem, MovingAverage
from hiertcn_jax.baselines.rolling_popularity import RollingPopularity
from hiertcn_jax.baselines.session_popularity import RepeatLast, SessionPopularity
from hiertcn_jax.baselines.stan import STAN
from hiertcn_jax.baselines.vsknn import VSKNN

RANKERS: dict[str, Callable[..., Ranker]] = {
    "popularity": Popularity,
    "rolling_popularity": RollingPopularity,
    "session_popularity": SessionPopularity,
    "repeat_last": RepeatLast,
    "moving_average": MovingAverage,
    "max_item": MaxItem,
    "item_knn": ItemKNN,
    "vsknn": VSKNN,
    "stan": STAN,
    "markov": Markov,
}
"""Name -> constructor(rows, **settings), where rows is `v`, the rows of the item table."""

AT_LEVELS = frozenset({"rolling_popularity", "vsknn", "stan"})
"""Those whose counts or neighbours have a level (`memory.levels`): they look at a time's past."""
