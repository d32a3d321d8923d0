"""The flags for the shape of a batch, the same in every benchmark."""

from absl import flags

from hiertcn_jax.batch import Bucket


def define_bucket_flags() -> None:
    """Defines --lanes, --events and --sessions."""
    flags.DEFINE_integer("lanes", 128, "Lanes of a batch.", lower_bound=1)
    flags.DEFINE_integer("events", 64, "Events in a row.", lower_bound=1)
    flags.DEFINE_integer("sessions", 32, "Sessions that a row may touch.", lower_bound=1)


def read_bucket() -> Bucket:
    """The bucket of the parsed flags."""
    values = flags.FLAGS
    return Bucket(values.lanes, values.events, values.sessions)
