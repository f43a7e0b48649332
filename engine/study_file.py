"""The database of a study: made, joined, reached, and what it says where it cannot be.

Beside it lies the recipe that its trials change. This file and `study` know optuna.
"""

import shlex
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from engine.errors import DataError, RecipeError
from engine.files import make_folder, write_atomic
from engine.recipe import Recipe
from engine.recipe_file import dump, loads, override
from engine.runs import Workspace
from engine.space import space_of

BUSY_S = 60
BEAT_S = 30
LOST_S = 120
PLACES = ("manifest", "sources", "train_sources", "words")
"""The keys of `[data]` that say where it lies."""
REFUSED = SQLAlchemyError, StorageInternalError
"""What a database raises that refuses, or is out of reach."""
DAMAGED = "malformed", "not a database"
"""What SQLite says of a file that is spoiled."""
_QUIET = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna: that ask and heartbeat go together is experimental, and it says so.

    What is warned of is the whole process's to say: one thread at a time may change it.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def reached(url: str) -> Iterator[None]:
    """Turn what a database refuses into a sentence."""
    try:
        yield
    except (*REFUSED, ImportError) as error:
        raise _refusal(url, str(error.__cause__ or error).splitlines()[0]) from error


def _refusal(url: str, why: str) -> DataError:
    """What a database refused, with what to do about it."""
    place = url.rpartition("@")[2].partition("?")[0]  # without a password
    path = place.removeprefix("sqlite:///")
    if path != place and any(word in why for word in DAMAGED):
        hint = (
            f"save what is readable with `sqlite3 {shlex.quote(path)} .recover | sqlite3 mended.db`"
            " and put that in its place, or move it away and begin another study"
        )
        return DataError(f"{path} is damaged: {why}", hint)
    if path != place:
        hint = "free space, check the folder and --storage, or wait for the other process"
        return DataError(f"cannot use {path}: {why}", hint)
    return DataError(f"the study's database {place} failed: {why}", "check --storage")


def url_of(workspace: Workspace, name: str, storage: str | None) -> str:
    """Where a study is kept: a file of the workspace, unless another database is given."""
    return storage or f"sqlite:///{workspace.studies / name}.db"


def storage_of(url: str) -> RDBStorage:
    """Open a database; a trial whose process falls silent is tried once more."""
    try:
        make_url(url)
    except ValueError as error:
        raise _refusal(url, "its port is no number") from error
    wait = {"connect_args": {"timeout": BUSY_S}} if url.startswith("sqlite") else {}
    with quiet():
        return RDBStorage(
            url,
            engine_kwargs=wait,
            heartbeat_interval=BEAT_S,
            grace_period=LOST_S,
            heartbeat_stale_trial_callback=_again,
        )


def _again(study: optuna.Study, lost: FrozenTrial) -> None:
    """Try once more what a process was lost with."""
    if lost.user_attrs.get("begun") and lost.user_attrs.get("operation") != "retry":
        attrs = {"parent": lost.number, "operation": "retry"}
        study.enqueue_trial(lost.params, user_attrs=attrs)


def create(
    workspace: Workspace, name: str, recipe: Recipe, wanted: int, storage: str | None = None
) -> None:
    """Make a study, or join one of the same recipe in a shared database.

    The data may lie elsewhere. Raises DataError where one of that name is there already, and
    RecipeError for a bad space or a name that its runs cannot have.
    """
    space_of(override(recipe, {"name": f"{name}-t0000"}))
    file, url = workspace.studies / f"{name}.toml", url_of(workspace, name, storage)
    if file.exists():
        message = f"there is a study {name!r} already"
        raise DataError(message, f"go on with --resume {name}, or give another --name")
    make_folder(workspace.studies)
    search = recipe.search
    better: Literal["maximize", "minimize"] = "maximize" if search.quality == "pauc" else "minimize"
    with reached(url), quiet():
        kept = storage_of(url)
        study = optuna.create_study(
            study_name=name, storage=kept, directions=[better, "minimize"], load_if_exists=True
        )
        joined = study.user_attrs.get("recipe")
        if joined and not _same(loads(joined, Path("/")), recipe):
            message = f"the study {name!r} in that database has another recipe"
            raise RecipeError(
                message, hint="only where data lies may differ; or give another --name"
            )
        if not joined:
            study.set_user_attr("wanted", wanted)
            study.set_user_attr("recipe", dump(recipe))
        kept.remove_session()
        kept.engine.dispose()
    write_atomic(file, dump(recipe).encode())


def _same(joined: Recipe, recipe: Recipe) -> bool:
    """Whether two recipes say the same of everything but where the data lies."""
    ours = loads(dump(recipe), Path("/"))
    places = {key: getattr(ours.data, key) for key in PLACES}
    data = joined.data.model_copy(update=places)
    return joined.model_copy(update={"data": data}) == ours


def studies(workspace: Workspace) -> list[str]:
    """Names of the studies of a workspace."""
    return sorted(path.stem for path in workspace.studies.glob("*.toml"))


def load(storage: RDBStorage, workspace: Workspace, name: str) -> optuna.Study:
    """Load a study. Raises DataError where it is not there."""
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError as error:
        raise unknown(workspace, name) from error


def unknown(workspace: Workspace, name: str) -> DataError:
    """That there is no such study here, and which there are, or where else it is."""
    if name in studies(workspace):
        return DataError(f"study {name!r} is kept in another database", "give its --storage")
    known = ", ".join(studies(workspace)) or "none yet"
    return DataError(f"no study {name!r} in {workspace.root}", f"studies here: {known}")
