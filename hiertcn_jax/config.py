"""What the configs of all models share; what a model has of its own is in its file.

A layer that several models have brings a class of its settings (`GRUConfig`, `TCNConfig`), which
the configs of these models inherit. So a config is flat: its fields are the flags, and the keys of
its JSON.
"""

import dataclasses
from typing import ClassVar, Literal

from hiertcn_jax.memory.config import KINDS
from hiertcn_jax.settings import Settings, setting

Normalize = Literal["none", "prediction", "both"]
ItemMode = Literal["auto", "dense", "rows", "given"]
DType = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class ModelConfig(Settings):
    """What decides the shape and meaning of the parameters, of any model.

    Attributes:
      widths: The fields that are the model's own widths, which a budget of parameters scales.
    """

    widths: ClassVar[tuple[str, ...]] = ()

    name: str = setting("", "Which model.", flag="model")
    item_dim: int = setting(128, "Width of an item embedding.", at_least=1)
    projection_dim: int = setting(
        0,
        "Width of a projection of item embeddings that the model reads instead of them; 0: none.",
        at_least=0,
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
    memory: tuple[str, ...] = setting(
        (),
        "Memories that add to scores, of world (what all pick now), followers (what follows the "
        "last items) and own (what the user picked before); empty for none.",
    )
    memory_units: int = setting(
        0,
        "Units of a small network on the counts of memory, beside their weights; 0 for none.",
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
        """The model's own widths are multiples of it."""
        return 1
