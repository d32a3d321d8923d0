"""Frozen settings of a run, checked where they are built.

Three groups matter on restore. `ModelConfig` and the data's hash decide what the parameters mean:
they must be equal. `LossConfig` and `OptimizerConfig` decide what the optimizer state means: equal
too. `TrainConfig` and `EvalConfig` say how a run is run, and may differ from one start to the next.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from hiertcn_jax.saving.config_fields import JsonFields, above, at_least, bounded, one_of, share

LOSSES = (
    "cross_entropy",
    "sampled_softmax",
    "nce",
    "bpr",
    "hinge_linear",
    "hinge_sigmoid",
    "hinge_logsigmoid",
    "l2",
)
NEGATIVE_SOURCES = ("impressions", "uniform", "popularity", "in_batch")
POOLINGS = ("mean", "max", "last")
HIERGRU_FEEDS = ("init", "all")
GAP_DECAYS = ("none", "fixed", "learned")
NORMALIZE = ("none", "prediction", "both")
ITEM_MODES = ("auto", "dense", "rows", "given")
DENSE_ITEMS = 100_000
"""Up to this many items `dense` mode is as quick as `rows` (docs/performance.md)."""
SCHEDULES = ("constant", "step", "cosine")
DTYPES = ("float32", "bfloat16")
FIT_ON = ("train", "train_valid")
MASK_SEEN = ("none", "session", "user")
MONITOR_GROUPS = ("all", "first", "next")
MONITOR_METRICS = ("recall@1", "recall@5", "recall@10", "recall@20", "mrr", "ndcg@10")


@dataclasses.dataclass(frozen=True)
class ModelConfig(JsonFields):
    """What decides the shape and meaning of the parameters.

    Attributes:
      name: A key of `hiertcn_jax.models.MODELS`.
      item_dim: `d`, width of an item embedding.
      projection_dim: Width of a projection of item embeddings that TCN and pooled sessions share;
        0 takes the embeddings as they are.
      gru_dim: Width of one GRU layer.
      gru_layers: GRU layers; HierTCN's TCN sees the states of all side by side.
      pooling: How a session becomes one vector: mean, max or last of its known items.
      gap_decay: exp(-gap/tau) on the GRU's state: none, fixed tau, or learned tau.
      gap_decay_hours: tau, or where a learned tau starts.
      tcn_channels: Channels of each temporal block.
      kernel_size: Taps of each convolution.
      dilation_base: Block i has dilation `dilation_base**i`.
      convs_per_block: 1 as in the released code, 2 as in the TCN paper.
      residual: Whether a block adds its input to its output.
      hiergru_feed: Where the state over sessions goes in hiergru: `init`, into the first state of
        the next session; `all`, also into each of its steps.
      attention_dim: Width of the attention blocks of sasrec.
      attention_window: Events that one attention block sees, the newest included.
      attention_blocks: Attention blocks.
      attention_heads: Heads of each; they divide `attention_dim`.
      dropout: Share of activations dropped behind each convolution, GRU layer and layer of an
        attention block.
      input_dropout: Share of the input channels dropped.
      normalize: L2-normalise nothing, the prediction, or prediction and item embeddings.
      temperature: The prediction is divided by it.
      item_bias: Whether each item has a bias in its score; items of given embeddings have none.
      tied_output: Whether items are scored by their input embeddings; False learns a second table.
      unknown_rate: Share of training inputs replaced by the unknown item, which trains its row.
      item_mode: `dense` updates the whole item table in each step, `rows` only the rows of a batch;
        `given` reads the rows of a batch from a file of embeddings, which are not trained. `auto`
        is `given` where there is such a file, otherwise the quicker of the other two for the run's
        catalogue and loss, see `choose_item_mode`.
      dtype: Type that matrix products are computed in; parameters and losses stay float32.
    """

    name: str = "hiertcn"
    item_dim: int = 128
    projection_dim: int = 0
    gru_dim: int = 128
    gru_layers: int = 1
    pooling: str = "mean"
    gap_decay: str = "none"
    gap_decay_hours: float = 168.0
    tcn_channels: tuple[int, ...] = (128, 128, 128)
    kernel_size: int = 3
    dilation_base: int = 2
    convs_per_block: int = 1
    residual: bool = True
    hiergru_feed: str = "init"
    attention_dim: int = 128
    attention_window: int = 50
    attention_blocks: int = 2
    attention_heads: int = 1
    dropout: float = 0.0
    input_dropout: float = 0.0
    normalize: str = "none"
    temperature: float = 1.0
    item_bias: bool = True
    tied_output: bool = True
    unknown_rate: float = 0.01
    item_mode: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        bounded(self)
        at_least(self, 1, "item_dim", "gru_dim", "gru_layers", "kernel_size", "dilation_base")
        at_least(
            self, 1, "attention_dim", "attention_window", "attention_blocks", "attention_heads"
        )
        at_least(self, 0, "projection_dim")
        above(self, 0, "gap_decay_hours", "temperature")
        share(self, "dropout", "input_dropout", "unknown_rate")
        one_of(self, "pooling", POOLINGS)
        one_of(self, "gap_decay", GAP_DECAYS)
        one_of(self, "hiergru_feed", HIERGRU_FEEDS)
        one_of(self, "normalize", NORMALIZE)
        one_of(self, "item_mode", ITEM_MODES)
        one_of(self, "dtype", DTYPES)
        if not self.tcn_channels or min(self.tcn_channels) < 1:
            raise ValueError(f"tcn_channels={self.tcn_channels}: must be one or more sizes >= 1")
        if self.convs_per_block not in (1, 2):
            raise ValueError(f"convs_per_block={self.convs_per_block}: must be 1 or 2")
        if self.attention_dim % self.attention_heads:
            raise ValueError(
                f"attention_heads={self.attention_heads}: must divide "
                f"attention_dim={self.attention_dim}"
            )


@dataclasses.dataclass(frozen=True)
class LossConfig(JsonFields):
    """What is minimised, and against which negatives.

    Attributes:
      name: One of `LOSSES`.
      negatives: (source, count) pairs; the candidates of all sources are taken together.
        `impressions` are items shown beside the event and not picked, up to so many; events without
        have the candidates of the other sources alone.
      own_negatives: Whether negatives are drawn for each event, instead of one set for the batch.
      popularity_alpha: The `popularity` source draws in proportion to events**alpha.
      logq: Whether sampled softmax corrects scores by the log expected count of each candidate.
      hinge_delta: Margin of the hinge losses.
      nce_weight: Weight of the negative part of NCE.
      per_user: Averages over the events of a user first, then over users, as the released code
        does; False averages over events.
    """

    name: str = "sampled_softmax"
    negatives: tuple[tuple[str, int], ...] = (("popularity", 2048),)
    own_negatives: bool = False
    popularity_alpha: float = 0.5
    logq: bool = True
    hinge_delta: float = 0.1
    nce_weight: float = 1.0
    per_user: bool = False

    def __post_init__(self) -> None:
        bounded(self)
        one_of(self, "name", LOSSES)
        at_least(self, 0, "popularity_alpha", "hinge_delta", "nce_weight")
        for source, count in self.negatives:
            if source not in NEGATIVE_SOURCES:
                raise ValueError(
                    f"negatives={source}: must be one of {', '.join(NEGATIVE_SOURCES)}"
                )
            if count < 1:
                raise ValueError(f"negatives={source}:{count}: the count must be >= 1")
        if [source for source, _ in self.negatives].count("impressions") > 1:
            raise ValueError("negatives=impressions: is there twice")
        if self.needs_negatives and not self.negatives:
            raise ValueError(f"negatives=: the loss {self.name} needs at least one source")

    @property
    def needs_negatives(self) -> bool:
        """Whether the loss compares the target with sampled items."""
        return self.name not in ("cross_entropy", "l2")

    @property
    def drawn_negatives(self) -> tuple[tuple[str, int], ...]:
        """The (source, count) pairs that candidates are drawn from; none where none are needed."""
        drawn = tuple(pair for pair in self.negatives if pair[0] != "impressions")
        return drawn if self.needs_negatives else ()

    @property
    def impressions(self) -> int:
        """The most items shown beside an event that it is compared with; 0: none."""
        return dict(self.negatives).get("impressions", 0) if self.needs_negatives else 0


def choose_item_mode(
    model: ModelConfig, loss: LossConfig, rows: int, given: bool = False
) -> ModelConfig:
    """The model's config with `auto` made `dense`, `rows` or `given`.

    Args:
      model: Its config.
      loss: The loss; cross_entropy needs all items.
      rows: `v`, rows of the item table.
      given: Whether there are given embeddings. They have no biases: `item_bias` becomes False.

    Raises:
      ValueError: The mode does not go with the embeddings, or the model or loss not with the mode.
    """
    if given:
        if model.item_mode not in ("auto", "given"):
            raise ValueError(
                f"item_mode={model.item_mode}: must be given or auto with item_embeddings"
            )
        model = dataclasses.replace(model, item_mode="given", item_bias=False)
        require_compatible(model, loss)
        return model
    if model.item_mode == "given":
        raise ValueError("item_mode=given: needs item_embeddings")
    require_compatible(model, loss)
    if model.item_mode != "auto":
        return model
    rows_are_quicker = rows > DENSE_ITEMS and loss.name != "cross_entropy"
    return dataclasses.replace(model, item_mode="rows" if rows_are_quicker else "dense")


def require_compatible(model: ModelConfig, loss: LossConfig) -> None:
    """Raises a ValueError where a model and a loss do not go together."""
    if model.item_mode in ("rows", "given") and loss.name == "cross_entropy":
        raise ValueError(
            f"item_mode={model.item_mode}: a batch has some rows of the table, and the loss "
            "cross_entropy needs all; sampled_softmax does not"
        )
    if model.item_mode == "given" and not model.tied_output:
        raise ValueError("tied_output=False: given embeddings are the only table there is")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(JsonFields):
    """Adam and its learning rate over the steps.

    Attributes:
      learning_rate: Learning rate of Adam, at its highest.
      schedule: `constant`; `step` multiplies by `decay_factor` at each of `decay_epochs`; `cosine`
        falls to `final_rate` of the highest at the last step.
      warmup_steps: Steps of linear rise from 0.
      decay_epochs: Epochs at which the `step` schedule drops.
      decay_factor: What the `step` schedule multiplies by.
      final_rate: Where the cosine ends, as a share of `learning_rate`.
      clip_norm: Gradients of a larger global norm are scaled down to it; 0 leaves them.
      weight_decay: Share of a weight that is taken off it in a step, times the learning rate
        (AdamW); of matrices and item embeddings, not of biases, norms, start tokens and states. In
        `rows` mode of the embeddings of a batch's items alone.
      adam_b1, adam_b2, adam_eps: Adam's constants.
    """

    learning_rate: float = 2e-3
    schedule: str = "cosine"
    warmup_steps: int = 0
    decay_epochs: tuple[int, ...] = (60, 120)
    decay_factor: float = 0.2
    final_rate: float = 0.0
    clip_norm: float = 0.0
    weight_decay: float = 0.0
    adam_b1: float = 0.9
    adam_b2: float = 0.999
    adam_eps: float = 1e-8

    def __post_init__(self) -> None:
        bounded(self)
        above(self, 0, "learning_rate", "decay_factor", "adam_eps")
        at_least(self, 0, "warmup_steps", "final_rate", "clip_norm", "weight_decay")
        share(self, "adam_b1", "adam_b2")
        one_of(self, "schedule", SCHEDULES)


@dataclasses.dataclass(frozen=True)
class TrainConfig(JsonFields):
    """How a training run is run.

    Attributes:
      epochs: Passes over the training events.
      steps: Optimizer steps; 0 leaves it to `epochs`, otherwise it overrides them.
      lanes, events, sessions: The bucket of training.
      data_parallelism: Devices that share the lanes, over all processes; it divides them. 1 of
        several processes: all of their devices do.
      model_parallelism: Devices that share the rows of the item table, for each of these.
      seed: One seed for parameters, order, dropout and negatives.
      fit_on: `train`, or `train_valid` for final tables.
      monitor: Validation metric that picks the best checkpoint, as group/metric.
      patience: Evaluations without a better `monitor` before the run stops; 0 never stops early.
      eval_every_epochs: Epochs between validations.
      checkpoint_every_steps: Steps between checkpoints besides those at validations; 0 for none.
      log_every_steps: Steps between lines of metrics.jsonl.
      item_embeddings: File of given item embeddings (.npy, float16 or float32, a row an item),
        which are then read from there and not learned; empty: they are learned.
      item_embedding_ids: Which item each of its rows is of: .txt, one id a line, or .parquet with a
        column item_id.
      embedding_cache_mb: MiB of memory for the rows of the most frequent items; the others are read
        from the file each time.
      max_bad_steps: Steps in a row with a loss or gradient that is not finite before the run stops,
        as soon as its metrics are read. Each of them is skipped.
    """

    epochs: int = 10
    steps: int = 0
    lanes: int = 128
    events: int = 64
    sessions: int = 32
    data_parallelism: int = 1
    model_parallelism: int = 1
    seed: int = 0
    fit_on: str = "train"
    monitor: str = "all/mrr"
    patience: int = 0
    eval_every_epochs: float = 1.0
    checkpoint_every_steps: int = 0
    log_every_steps: int = 20
    item_embeddings: str = ""
    item_embedding_ids: str = ""
    embedding_cache_mb: int = 1024
    max_bad_steps: int = 10

    def __post_init__(self) -> None:
        bounded(self)
        at_least(self, 1, "epochs", "lanes", "events", "sessions")
        at_least(self, 1, "log_every_steps", "max_bad_steps")
        at_least(self, 1, "data_parallelism", "model_parallelism")
        at_least(self, 0, "steps", "seed", "patience", "checkpoint_every_steps")
        at_least(self, 0, "embedding_cache_mb")
        above(self, 0, "eval_every_epochs")
        one_of(self, "fit_on", FIT_ON)
        if bool(self.item_embeddings) != bool(self.item_embedding_ids):
            raise ValueError(
                f"item_embeddings={self.item_embeddings}: goes together with item_embedding_ids, "
                "the ids of its rows"
            )
        if self.lanes % self.data_parallelism:
            raise ValueError(
                f"data_parallelism={self.data_parallelism}: must divide lanes={self.lanes}"
            )
        group, _, metric = self.monitor.partition("/")
        if group not in MONITOR_GROUPS or metric not in MONITOR_METRICS:
            raise ValueError(
                f"monitor={self.monitor}: must be group/metric with a group of "
                f"{', '.join(MONITOR_GROUPS)} and a metric of {', '.join(MONITOR_METRICS)}"
            )


@dataclasses.dataclass(frozen=True)
class EvalConfig(JsonFields):
    """How a model is scored.

    Attributes:
      lanes, events, sessions: The bucket of evaluation.
      mask_seen: Items left out of the ranking because they were seen: `none`, those of the
        `session` so far, or of the `user` so far. The target always takes part.
      rank_events: Events ranked by one call. Few, so that on CPU their scores stay in the caches.
      rank_chunk: Catalogue rows scored at once, likewise; with `rank_events` it bounds the memory.
    """

    lanes: int = 128
    events: int = 64
    sessions: int = 32
    mask_seen: str = "none"
    rank_events: int = 64
    rank_chunk: int = 16384

    def __post_init__(self) -> None:
        bounded(self)
        at_least(self, 1, "lanes", "events", "sessions", "rank_events", "rank_chunk")
        one_of(self, "mask_seen", MASK_SEEN)


def with_defaults(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Saved configs by name; a field that an earlier version did not have is at its default.

    Args:
      saved: JSON values of `model`, `loss`, `optimizer`, `train` and `evaluation`, of those that
        there are; what else there is stays as it is.
    """
    kinds: dict[str, type[JsonFields]] = {
        "model": ModelConfig,
        "loss": LossConfig,
        "optimizer": OptimizerConfig,
        "train": TrainConfig,
        "evaluation": EvalConfig,
    }

    def complete(name: str, values: Any) -> Any:
        if name not in kinds or not isinstance(values, Mapping):
            return values
        return {**kinds[name]().to_dict(), **values}

    return {name: complete(name, values) for name, values in saved.items()}


def require_even_lanes(data_parallelism: int, evaluation: EvalConfig) -> None:
    """Raises a ValueError where devices do not share the lanes of an evaluation evenly."""
    if evaluation.lanes % data_parallelism:
        raise ValueError(
            f"data_parallelism={data_parallelism}: must divide eval_lanes={evaluation.lanes}"
        )
