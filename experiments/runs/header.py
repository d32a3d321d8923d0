"""The lines printed before a run begins: its data, model, devices and steps."""

import math
import textwrap

import jax

from data_pipelines.raw.times import to_iso
from experiments.runs.continuing import Continued
from experiments.runs.resolve import ResolvedRun
from hiertcn_jax.memory.config import WORLD_HALF_LIVES
from hiertcn_jax.models import build
from hiertcn_jax.models.budget import count_parameters

_WIDTH = 80
_LABEL = 8


def header_lines(run: ResolvedRun) -> list[str]:
    """Lines of at most 80 columns: data, model, devices, steps."""
    facts = {
        **({} if run.continued is None else {"from": _continued(run.continued)}),
        "data": _data(run),
        "model": _model(run),
        "devices": _devices(run),
        "steps": _steps(run),
    }
    return [
        line
        for label, text in facts.items()
        for line in textwrap.wrap(
            text,
            _WIDTH,
            initial_indent=label.ljust(_LABEL),
            subsequent_indent=" " * _LABEL,
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]


def _continued(continued: Continued) -> str:
    replay = continued.replay
    return (
        f"{continued.workdir}, step {continued.step:,}: learns {replay.new_events:,} events since "
        f"{to_iso(1000 * replay.since)} and {replay.kept:.2g} of the "
        f"{replay.events - replay.new_events:,} older ones of the same {len(replay.users):,} users"
    )


def state_bytes(run: ResolvedRun) -> int:
    """Bytes of the state that the model keeps of a user."""
    model = build(run.config.model)
    carry = jax.eval_shape(lambda: model.init_carry(1))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(carry))


def _data(run: ResolvedRun) -> str:
    data, fit_on = run.data, run.config.train.fit_on
    return (
        f"{data.directory}: {data.manifest['counts']['users']:,} users, "
        f"{data.manifest['counts']['items']:,} items; trains on {data.fitted_events(fit_on):,} "
        f"events in {data.fitted_sessions(fit_on):,} sessions ({fit_on.replace('_', ' and ')})"
        f"{_order_alone(run)}"
    )


def _order_alone(run: ResolvedRun) -> str:
    """What half-lives mean for a log that has no times."""
    if run.data.manifest.get("log", {}).get("time_unit") != "order":
        return ""
    if not run.config.model.memory:
        return "; it has an order in place of times, and its steps count as seconds"
    return (
        "; it has an order in place of times: memory's half-lives are "
        f"{WORLD_HALF_LIVES[0]:,.0f} to {WORLD_HALF_LIVES[-1]:,.0f} steps of it"
    )


def _model(run: ResolvedRun) -> str:
    model, data = run.config.model, run.data
    source = "given" if model.item_mode == "given" else "learned"
    return (
        f"{model.name}: {count_parameters(model):,} parameters, and {source} embeddings of "
        f"{data.vocabulary.size:,} x {model.item_dim}; reads {model.reads}; keeps "
        f"{state_bytes(run):,} bytes of a user"
    )


def _devices(run: ResolvedRun) -> str:
    kind = jax.devices()[0].device_kind
    if run.layout is None:
        return f"1 {kind}"
    shape = run.layout.mesh.shape
    processes = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    sizes = " x ".join(f"{size} on {axis}" for axis, size in shape.items())
    return f"{math.prod(shape.values())} {kind}{processes}: {sizes}"


def _steps(run: ResolvedRun) -> str:
    train, plan = run.config.train, run.plan
    bucket, epochs = train.bucket, plan.total_steps / plan.steps_per_epoch
    patience = train.number("patience")
    early = (
        f", fewer after {patience} validation{'' if patience == 1 else 's'} without a better "
        f"{train.monitor}"
    )
    return (
        f"{plan.total_steps:,} ({epochs:.3g} epochs of {plan.steps_per_epoch:,})"
        f"{early if patience and train.fit_on == 'train' else ''}; batches of {bucket.lanes} lanes "
        f"x {bucket.events} events, at most {bucket.sessions} sessions a lane"
    )
