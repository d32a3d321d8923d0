"""Makes the training batches of a run."""

import grain

from data_pipelines.lanes.distinct_items import ItemRows
from data_pipelines.lanes.loaders import train_loader
from data_pipelines.lanes.memory_lists import Recall
from data_pipelines.lanes.replay import Replay
from experiments.runs.config import RunConfig
from experiments.runs.data import Data
from experiments.runs.recall import last_counted
from hiertcn_jax.batch import LaneBatch


def run_loader(
    run: RunConfig,
    data: Data,
    item_rows: ItemRows | None = None,
    recall: Recall | None = None,
    replay: Replay | None = None,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.IterDataset[LaneBatch]:
    """Endless batches; see `train_loader`.

    Args:
      run: Its settings.
      data: The data to train on.
      item_rows: Settings of `rows` or `given` mode.
      recall: The log's memory, for a model with terms of it.
      replay: What to learn, for a run that continues another.
      process_index: This process, of `process_count` that share the lanes.
      process_count: Number of processes.
    """
    config = run.train
    return train_loader(
        data.histories,
        config.bucket,
        seed=config.seed,
        fit_on=config.fit_on,
        before=data.cut(last_counted(config.fit_on)),
        impressions=run.loss.impressions,
        item_rows=item_rows,
        recall=recall,
        replay=replay,
        process_index=process_index,
        process_count=process_count,
    )
