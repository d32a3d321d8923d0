"""Serves an exported model over HTTP: events in, recommendations out.

    python -m experiments.serve --export_dir=X --store=shop.db --port=8080

Recommendations change with every event. What is accepted is in the store's file, and survives a
kill. It runs without JAX. docs/serving.md lists the routes; /openapi.json and /docs describe them.
"""

import concurrent.futures
import gc
import importlib.util
import sys
from pathlib import Path
from typing import NamedTuple

from absl import flags

from data_pipelines.commands.command import run_command
from data_pipelines.errors import DataError
from experiments.server.hangups import Hangups

_NEEDED = (
    "fastapi",
    "httptools",
    "onnxruntime",
    "orjson",
    "prometheus_client",
    "safetensors",
    "uvicorn",
)

_SWITCH_SECONDS = 0.0005
"""How long one thread may run Python while another waits. HTTP has to wait for the model's thread
at each read; with Python's default of 5 ms that bounds the requests of a second.
"""


class Settings(NamedTuple):
    """What the flags say."""

    export_dir: Path
    store: str
    host: str
    port: int
    token_file: Path | None
    models_dir: Path | None


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("export_dir", None, "Directory of experiments.export.", required=True)
    flags.DEFINE_string(
        "store",
        None,
        "File for users' states and events; made if there is none. Or, for several servers, a "
        "Redis: redis://host:6379/0. Default: a file beside the export, with .db added to its "
        "name.",
    )
    flags.DEFINE_string("host", "127.0.0.1", "Address to listen at; 0.0.0.0 for all.")
    flags.DEFINE_integer(
        "port", 8080, "Port to listen at; 0: any free one.", lower_bound=0, upper_bound=65535
    )
    flags.DEFINE_string(
        "token_file",
        None,
        "File with a token. Every request must then have the header Authorization: Bearer TOKEN, "
        "but for /healthz, /readyz and the pages, which hold no data.",
    )
    flags.DEFINE_string(
        "models_dir",
        None,
        "Folder whose exports POST /v1/model may name. Without it only SIGHUP changes the model: "
        "it reads --export_dir again, which may be a link that now leads elsewhere.",
    )


def read_settings() -> Settings:
    """The settings of the parsed flags."""
    values = flags.FLAGS
    directory = Path(values.export_dir)
    beside = directory.resolve().with_name(f"{directory.resolve().name}.db")
    return Settings(
        export_dir=directory,
        store=values.store or str(beside),
        host=values.host,
        port=values.port,
        token_file=Path(values.token_file) if values.token_file else None,
        models_dir=Path(values.models_dir) if values.models_dir else None,
    )


def main(settings: Settings) -> None:
    """Loads the model, counts what the store has, and answers until a signal."""
    hangups = Hangups()
    for package in _NEEDED:
        if importlib.util.find_spec(package) is None:
            raise DataError(f"{package} is not installed; run: pip install 'hiertcn_jax[serve]'")
    token = None if settings.token_file is None else read_token(settings.token_file)
    if settings.models_dir is not None and not settings.models_dir.is_dir():
        raise DataError(f"--models_dir={settings.models_dir}: is no folder")
    # Nothing becomes garbage while it starts: to look for some takes a tenth of the time.
    gc.disable()
    from experiments.server.starting import load_numba, read_export

    load_numba()
    with concurrent.futures.ThreadPoolExecutor(1, "export") as pool:
        # Links are followed once: all files are of one export, wherever a link leads later.
        reading = pool.submit(read_export, settings.export_dir.resolve())
        # Files are hashed while these import what is large.
        from experiments.server.app import make_app
        from experiments.server.engine import Engine
        from experiments.server.lateness import Lateness
        from experiments.server.opening import is_url, open_store
        from experiments.server.running import open_socket, serve, swap_on_hangup
        from experiments.server.store import StoreError
        from experiments.server.swapping import Swapper
        from experiments.server.worker import Worker
        from hiertcn_jax.exported.reading import ExportError

        try:
            export = reading.result()
        except ExportError as error:
            raise DataError(str(error)) from error
    listening = open_socket(settings.host, settings.port)
    is_new = not is_url(settings.store) and not Path(settings.store).exists()
    try:
        store, risks = open_store(settings.store)
        try:
            engine = Engine(export, store)
        except (ExportError, StoreError):
            store.close()
            if is_new:
                Path(settings.store).unlink()
            raise
        users, events = store.sizes()
    except (ExportError, StoreError) as error:
        raise DataError(str(error)) from error
    gc.freeze()
    gc.enable()
    host, port = listening.getsockname()[:2]
    print(f"model {export.model_id}: {len(export.items.ids):,} items")
    print(f"store {store.name}: {users:,} users, {events:,} events")
    for risk in risks:
        print(f"store {store.name}: {risk}")
    print(f"counts: {engine.snapshots.note}")
    print(f"serving on http://{host}:{port}, described at /docs", flush=True)
    worker = Worker(engine)
    swapper = Swapper(worker, settings.models_dir)
    swap_on_hangup(swapper, settings.export_dir, hangups)
    sys.setswitchinterval(_SWITCH_SECONDS)
    serve(make_app(worker, token, swapper, Lateness()), listening)


def read_token(path: Path) -> str:
    """The token of a file: its text without the blanks around it.

    Raises:
      DataError: It is empty, or not one word of printable ASCII.
      OSError: It cannot be read.
    """
    token = path.read_bytes().strip()
    if not token or not all(33 <= byte <= 126 for byte in token):
        raise DataError(f"{path}: must hold one word of printable ASCII, the token")
    return token.decode()


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, (DataError, OSError))
