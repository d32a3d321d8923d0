"""Frozen settings of a run, checked where they are built.

Three groups matter on restore. `ModelConfig` and the data's hash decide what the parameters mean:
they must be equal. `LossConfig` and `OptimizerConfig` decide what the optimizer state means: equal
too. `TrainConfig` and `EvalConfig` say how a run is run, and may differ from one start to the next.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from hiertcn_jax.settings import Settings, setting

LossName = Literal[
    "cross_entropy",
    "sampled_softmax",
    "nce",
    "bpr",
    "hinge_linear",
    "hinge_sigmoid",
    "hinge_logsigmoid",
    "l2",
]
Pooling = Literal["mean", "max", "last"]
HierGRUFeed = Literal["init", "all"]
GapDecay = Literal["none", "fixed", "learned"]
Normalize = Literal["none", "prediction", "both"]
ItemMode = Literal["auto", "dense", "rows", "given"]
Schedule = Literal["constant", "step", "cosine"]
DType = Literal["float32", "bfloat16"]
FitOn = Literal["train", "train_valid"]
MaskSeen = Literal["none", "session", "user"]
NEGATIVE_SOURCES = ("impressions", "uniform", "popularity", "in_batch")
DENSE_ITEMS = 100_000
"""Up to this many items `dense` mode is as quick as `rows` (docs/performance.md)."""
MONITOR_GROUPS = ("all", "first", "next")
MONITOR_METRICS = ("recall@1", "recall@5", "recall@10", "recall@20", "mrr", "ndcg@10")


@dataclasses.dataclass(frozen=True)
class ModelConfig(Settings):
    """What decides the shape and meaning of the parameters."""

    name: str = setting("hiertcn", "Which model.", flag="model")
    item_dim: int = setting(128, "Width of an item embedding.", at_least=1)
    projection_dim: int = setting(
        0,
        "Width of a projection of item embeddings that the model reads instead of them; 0: none.",
        at_least=0,
    )
    gru_dim: int = setting(128, "Width of one GRU layer.", at_least=1)
    gru_layers: int = setting(
        1,
        "GRU layers. HierTCN's TCN sees the states of all of them side by side.",
        at_least=1,
    )
    pooling: Pooling = setting(
        "mean",
        "How a session becomes one vector: mean, max or last of its known items.",
    )
    gap_decay: GapDecay = setting(
        "none",
        "exp(-gap/tau) on the state over sessions: none, with a fixed tau, or with a learned tau.",
    )
    gap_decay_hours: float = setting(168.0, "tau in hours; a learned tau starts from it.", above=0)
    tcn_channels: tuple[int, ...] = setting(
        (128, 128, 128),
        "Channels of each temporal block.",
        at_least=1,
        filled=True,
    )
    kernel_size: int = setting(3, "Taps of each convolution.", at_least=1)
    dilation_base: int = setting(2, "Block i has dilation dilation_base**i.", at_least=1)
    convs_per_block: int = setting(
        1, "1 as in the released code, 2 as in the TCN paper.", at_least=1, at_most=2
    )
    residual: bool = setting(True, "Whether a block adds its input to its output.")
    hiergru_feed: HierGRUFeed = setting(
        "init",
        "Where the state over sessions goes: init, into the first state of the next session; all,"
        " into each of its steps too.",
    )
    attention_dim: int = setting(128, "Width of the attention blocks.", at_least=1)
    attention_window: int = setting(
        50,
        "Events that one attention block sees, the newest included.",
        at_least=1,
    )
    attention_blocks: int = setting(2, "Attention blocks.", at_least=1)
    attention_heads: int = setting(
        1,
        "Heads of each attention block; they divide attention_dim.",
        at_least=1,
    )
    dropout: float = setting(
        0.0,
        "Share of activations dropped after each convolution, GRU layer and layer of an attention"
        " block.",
        at_least=0,
        below=1,
    )
    input_dropout: float = setting(0.0, "Share of the input channels dropped.", at_least=0, below=1)
    normalize: Normalize = setting(
        "none",
        "L2-normalise nothing, the prediction, or prediction and item embeddings.",
    )
    temperature: float = setting(1.0, "The prediction is divided by it.", above=0)
    item_bias: bool = setting(
        True,
        "Whether each item has a bias in its score; items of given embeddings have none.",
    )
    tied_output: bool = setting(
        True,
        "Whether items are scored by their input embeddings; False learns a second table.",
    )
    unknown_rate: float = setting(
        0.01,
        "Share of training inputs replaced by the unknown item, which trains its row.",
        at_least=0,
        below=1,
    )
    item_mode: ItemMode = setting(
        "auto",
        "dense updates the whole item table in each step, rows only the rows of a batch; given "
        "reads the rows of a batch from --item_embeddings, which are not trained. auto is given "
        "where there are such embeddings, otherwise the quicker of the other two for the "
        "catalogue and the loss.",
    )
    dtype: DType = setting(
        "float32",
        "Type that matrix products are computed in; parameters and losses stay float32.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attention_dim % self.attention_heads:
            raise ValueError(
                f"attention_heads={self.attention_heads}: must divide "
                f"attention_dim={self.attention_dim}"
            )


@dataclasses.dataclass(frozen=True)
class LossConfig(Settings):
    """What is minimised, and against which negatives."""

    name: LossName = setting("sampled_softmax", "What is minimised.", flag="loss")
    negatives: tuple[tuple[str, int], ...] = setting(
        (("popularity", 2048),),
        "Negatives as source:count, of the sources impressions, uniform, popularity, in_batch; "
        "the candidates of all of them are taken together. impressions are items shown beside the"
        " event and not picked, up to so many; events without them have the candidates of the "
        "other sources alone.",
    )
    own_negatives: bool = setting(
        False,
        "Whether negatives are drawn for each event, instead of one set for the batch.",
    )
    popularity_alpha: float = setting(
        0.5,
        "The popularity source draws in proportion to events**alpha.",
        at_least=0,
    )
    logq: bool = setting(
        True,
        "Whether sampled softmax corrects scores by the log expected count of each candidate.",
    )
    hinge_delta: float = setting(0.1, "Margin of the hinge losses.", at_least=0)
    nce_weight: float = setting(1.0, "Weight of the negative part of NCE.", at_least=0)
    per_user: bool = setting(
        False,
        "Average over the events of a user first, then over users, as the released code does; "
        "otherwise over events.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
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
class OptimizerConfig(Settings):
    """Adam and its learning rate over the steps."""

    learning_rate: float = setting(2e-3, "Learning rate of Adam, at its highest.", above=0)
    schedule: Schedule = setting(
        "cosine",
        "Learning rate over the steps. step multiplies it by decay_factor at each of "
        "decay_epochs; cosine lets it fall to final_rate of the highest at the last step.",
    )
    warmup_steps: int = setting(0, "Steps of linear rise from 0.", at_least=0)
    decay_epochs: tuple[int, ...] = setting((60, 120), "Epochs at which the step schedule drops.")
    decay_factor: float = setting(
        0.2,
        "The step schedule multiplies the learning rate by it.",
        above=0,
    )
    final_rate: float = setting(
        0.0,
        "Where the cosine ends, as a share of learning_rate.",
        at_least=0,
    )
    clip_norm: float = setting(
        0.0,
        "Gradients of a larger global norm are scaled down to it; 0 leaves them.",
        at_least=0,
    )
    weight_decay: float = setting(
        0.0,
        "Share of a weight that is taken off it in a step, times the learning rate (AdamW); of "
        "matrices and item embeddings, not of biases, norms, start tokens and states. In rows mode "
        "of the embeddings of a batch's items alone.",
        at_least=0,
    )
    adam_b1: float = setting(0.9, "Adam's decay of first moments.", at_least=0, below=1)
    adam_b2: float = setting(0.999, "Adam's decay of second moments.", at_least=0, below=1)
    adam_eps: float = setting(1e-8, "Adam's epsilon, added to the root of second moments.", above=0)


@dataclasses.dataclass(frozen=True)
class TrainConfig(Settings):
    """How a training run is run."""

    epochs: int = setting(10, "Passes over the training events.", at_least=1)
    steps: int = setting(
        0,
        "Optimizer steps; 0 leaves it to epochs, otherwise it overrides them.",
        at_least=0,
    )
    lanes: int = setting(
        128,
        "Lanes of a training batch: users that it reads side by side.",
        at_least=1,
    )
    events: int = setting(64, "Events of each lane in a training batch.", at_least=1)
    sessions: int = setting(32, "Most sessions of each lane in a training batch.", at_least=1)
    data_parallelism: int = setting(
        1,
        "Devices that share the lanes, over all processes; it divides them. 1 of several "
        "processes: all of their devices do.",
        at_least=1,
    )
    model_parallelism: int = setting(
        1,
        "Devices that share the rows of the item table, for each of these.",
        at_least=1,
    )
    seed: int = setting(0, "One seed for parameters, order, dropout and negatives.", at_least=0)
    fit_on: FitOn = setting("train", "What is learned from; train_valid is for final tables.")
    monitor: str = setting(
        "all/mrr",
        "Validation metric that picks the best checkpoint, as group/metric.",
    )
    patience: int = setting(
        0,
        "Evaluations without a better monitor before the run stops; 0 never stops early.",
        at_least=0,
    )
    eval_every_epochs: float = setting(1.0, "Epochs between validations.", above=0)
    checkpoint_every_steps: int = setting(
        0,
        "Steps between checkpoints besides those at validations; 0 for none.",
        at_least=0,
    )
    log_every_steps: int = setting(20, "Steps between lines of metrics.jsonl.", at_least=1)
    item_embeddings: str = setting(
        "",
        "File of given item embeddings (.npy, float16 or float32, a row an item), which are then "
        "read from there and not learned; empty: they are learned.",
    )
    item_embedding_ids: str = setting(
        "",
        "Which item each of its rows is of: .txt, one id a line, or .parquet with a column "
        "item_id.",
    )
    embedding_cache_mb: int = setting(
        1024,
        "MiB of memory for the rows of the most frequent items; the others are read from the file"
        " each time.",
        at_least=0,
    )
    max_bad_steps: int = setting(
        10,
        "Steps in a row with a loss or gradient that is not finite before the run stops, as soon "
        "as its metrics are read. Each of them is skipped.",
        at_least=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
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
class EvalConfig(Settings):
    """How a model is scored."""

    lanes: int = setting(128, "Lanes of an evaluation's batch.", at_least=1, flag="eval_lanes")
    events: int = setting(
        64,
        "Events of each lane in an evaluation's batch.",
        at_least=1,
        flag="eval_events",
    )
    sessions: int = setting(
        32,
        "Most sessions of each lane in an evaluation's batch.",
        at_least=1,
        flag="eval_sessions",
    )
    mask_seen: MaskSeen = setting(
        "none",
        "Items left out of the ranking because they were seen: none, those of the session so far,"
        " or of the user so far. The target always takes part.",
    )
    rank_events: int = setting(
        64,
        "Events ranked by one call. Few, so that on CPU their scores stay in the caches.",
        at_least=1,
    )
    rank_chunk: int = setting(
        16384,
        "Catalogue rows scored at once, likewise; with rank_events it bounds the memory.",
        at_least=1,
    )


def with_defaults(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Saved configs by name; a field that an earlier version did not have is at its default.

    Args:
      saved: JSON values of `model`, `loss`, `optimizer`, `train` and `evaluation`, of those that
        there are; what else there is stays as it is.
    """
    kinds: dict[str, type[Settings]] = {
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
