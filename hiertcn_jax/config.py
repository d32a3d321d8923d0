"""The settings that all models share. A model's own settings are in its file.

A layer that several models use brings a class of its settings (`GRUConfig`, `TCNConfig`), which the
configs of these models inherit. So a config is flat: its fields are the flags, and the keys of its
JSON.
"""

import dataclasses
from typing import ClassVar, Literal

from hiertcn_jax.memory.config import KINDS
from hiertcn_jax.settings import Settings, setting

HELP_TOPIC = "all models"

Normalize = Literal["none", "prediction", "both"]
ItemMode = Literal["auto", "dense", "rows", "given"]
DType = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class ModelConfig(Settings):
    """Settings of any model that decide the shape and meaning of its parameters.

    Attributes:
      widths: The fields with the model's own widths, which a budget of parameters scales.
    """

    widths: ClassVar[tuple[str, ...]] = ()

    name: str = setting("", "Which model.", flag="model")
    item_dim: int = setting(128, "Width of an item embedding.", at_least=1)
    projection_dim: int = setting(
        0,
        "Width of a projection of item embeddings that the model reads instead of them. 0: none.",
        at_least=0,
    )
    dropout: float = setting(
        0.0,
        "Share of activations dropped after each convolution, GRU layer, and layer of an attention "
        "block.",
        at_least=0,
        below=1,
    )
    input_dropout: float = setting(
        0.0, "Share of the model's input channels dropped.", at_least=0, below=1
    )
    normalize: Normalize = setting(
        "none",
        "L2-normalize nothing, the prediction, or both the prediction and the item embeddings.",
    )
    temperature: float = setting(1.0, "The prediction is divided by this before scoring.", above=0)
    item_bias: bool = setting(
        True,
        "Whether each item's score has a bias. Items with given embeddings have none.",
    )
    tied_output: bool = setting(
        True,
        "Score items by their input embeddings. False learns a second table for scores.",
    )
    unknown_rate: float = setting(
        0.01,
        "Share of training inputs replaced by the unknown item, so that its embedding is learned.",
        at_least=0,
        below=1,
    )
    item_mode: ItemMode = setting(
        "auto",
        "How training updates item embeddings. dense: all of them in each step. rows: those of "
        "the batch's items. given: none, they are read from --item_embeddings. auto: given with "
        "--item_embeddings, otherwise the faster of dense and rows for this catalogue and loss.",
    )
    dtype: DType = setting(
        "float32",
        "Type of matrix products. Parameters and losses are always float32.",
    )
    memory: tuple[str, ...] = setting(
        (),
        "Memories whose counts add to scores: world (what all users pick now), followers (what "
        "follows the last items), own (what the user picked before). Empty: none.",
    )
    memory_units: int = setting(
        0,
        "Hidden units of a small network on memory's counts, added to their weights. 0: none.",
        at_least=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind in self.memory:
            if kind not in KINDS or self.memory.count(kind) > 1:
                raise ValueError(
                    f"memory={','.join(self.memory)}: must be of {', '.join(KINDS)}, each once"
                )

    def require_complete(self) -> None:
        """Raises a ValueError where a model lacks a setting that has no default of its own.

        Not checked where the config is built: one model's settings are made from another's, and
        what is lacking comes after.
        """

    @property
    def width_unit(self) -> int:
        """The model's own widths must be multiples of it."""
        return 1

    @property
    def reads(self) -> str:
        """What a prediction reads of the events before it, in words."""
        return "all earlier events"
