import random
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import Trial as Asking
from studying import NAME, finish, go_on, made_recipe, made_values, tried

from engine.errors import DataError, RecipeError
from engine.runs import Workspace
from engine.space import Dimension
from engine.study import LOST, Asked, Outcome, Study, fork, view, want
from engine.study_file import create, studies
from engine.trials import Trial

PROGRAM = [sys.executable, str(Path(__file__).with_name("studying.py"))]


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


def begun(home: Workspace, trials: int, **changes: object) -> Workspace:
    dotted = {f"search.{key}": value for key, value in changes.items()}
    create(home, NAME, made_recipe(dotted), trials)
    return home


def whole(root: Path, trials: int, **changes: object) -> list[Trial]:
    """The trials of a study that nothing interrupts."""
    home = begun(Workspace(root), trials, **changes)
    go_on(home)
    return list(tried(home))


def sequence(trials: list[Trial] | tuple[Trial, ...]) -> list[object]:
    """What was tried, in order, with where each came from; numbers by place."""
    places = {trial.number: place for place, trial in enumerate(trials)}
    origin = {None: None, **places}
    return [(trial.params, origin[trial.parent], trial.operation) for trial in trials]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_study_opened_anew_for_each_trial_equals_an_uninterrupted_one(
    tmp_path: Path, sampler: str
) -> None:
    expected = whole(tmp_path / "whole", 14, sampler=sampler)
    home = begun(Workspace(tmp_path / "cut"), 14, sampler=sampler)
    for _ in range(14):
        with Study.opened(home, NAME, None) as study:
            study.ask()  # the process is lost before the trial is told
        with Study.opened(home, NAME, None) as study:
            (left,) = study.left(home)
            finish(study, left)
    assert sequence(tried(home)) == sequence(expected)
    assert [trial.values for trial in tried(home)] == [made_values(t.params) for t in expected]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_study_that_is_killed_anywhere_goes_on_as_if_nothing_had_been(
    tmp_path: Path, sampler: str
) -> None:
    assert_killed_equals_whole(tmp_path, sampler, kills=2)


def assert_killed_equals_whole(folder: Path, sampler: str, kills: int) -> None:
    """Kill a study of 40 trials so many times at random; it ends like one that is not killed."""
    expected = whole(folder / "whole", 40, sampler=sampler)
    home, rng = Workspace(folder / "cut"), random.Random(kills)
    command = [*PROGRAM, str(home.root), sampler]
    for _ in range(kills):
        program = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert program.stdout is not None
        for _ in range(rng.randrange(1, 6)):
            program.stdout.readline()  # a trial has ended
        time.sleep(rng.uniform(0, 0.2))
        program.send_signal(signal.SIGKILL)
        program.communicate()
        assert program.returncode == -signal.SIGKILL
    assert subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0
    assert sequence(tried(home)) == sequence(expected)
    assert all(trial.state == "complete" for trial in tried(home))


def test_a_trial_that_is_read_as_another_process_takes_it_runs(home: Workspace) -> None:
    """Its state is read before what it says of itself: it waits still, and has begun."""
    with Study.opened(begun(home, 1), NAME, None) as study:
        study.study.enqueue_trial({}, user_attrs={"begun": True})
        assert [trial.state for trial in study.shown()] == ["running"]


def test_two_processes_share_a_study_and_each_trial_is_of_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    roots = [tmp_path / "one", tmp_path / "two"]
    for root in roots:
        create(Workspace(root), NAME, made_recipe(), 40, url)
    quiet = subprocess.DEVNULL
    programs = [subprocess.Popen([*PROGRAM, str(r), "tpe", url], stdout=quiet) for r in roots]
    assert [program.wait() for program in programs] == [0, 0]
    trials = tried(Workspace(roots[0]), url)
    assert [trial.state for trial in trials] == ["complete"] * 40
    assert {trial.run for trial in trials} == {"of one", "of two"}
    assert all(trial.values == made_values(trial.params) for trial in trials)
    sampled = [tuple(trial.params.items()) for trial in trials if trial.parent is None]
    assert len(set(sampled)) == len(sampled)


def shared(folder: Path, trials: int) -> tuple[Workspace, Workspace, str]:
    """Two workspaces and the database that both search in."""
    folder.mkdir(exist_ok=True)
    url = f"sqlite:///{folder}/shared.db"
    homes = Workspace(folder / "one"), Workspace(folder / "two")
    for each in homes:
        create(each, NAME, made_recipe(), trials, url)
    return *homes, url


def fall_silent(folder: Path) -> None:
    """Let all that runs seem lost."""
    with closing(sqlite3.connect(folder / "shared.db")) as database, database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00'")


def test_processes_that_ask_together_try_different_things(tmp_path: Path) -> None:
    """Each finds that as many trials have begun as the other does."""
    params = []
    for number in range(2):
        one, _, url = shared(tmp_path / str(number), 4)
        with Study.opened(one, NAME, url) as study:
            asked = study.ask()
            assert asked is not None
            params.append(asked.params)
    assert params[0] != params[1]


def test_a_trial_that_another_process_took_for_lost_is_tried_again_and_counts_once(
    tmp_path: Path,
) -> None:
    one, two, url = shared(tmp_path, 3)
    with Study.opened(one, NAME, url) as slow:
        asked = slow.ask()
        assert asked is not None
        fall_silent(tmp_path)
        go_on(two, url)
        with slow.beating(asked):
            asked.keep("run", "of one")
            finish(slow, asked)
        assert slow.ask() is None
    lost, *others = tried(one, url)
    assert (lost.state, lost.why, lost.run) == ("failed", LOST, "")
    assert [trial.state for trial in others] == ["complete"] * 3
    assert (others[0].operation, others[0].params) == ("retry", asked.params)


def test_what_is_lost_before_it_is_whole_does_not_run_for_ever(tmp_path: Path) -> None:
    one, two, url = shared(tmp_path, 2)
    with Study.opened(one, NAME, url) as study:
        study.space = (Dimension("without choices", "choice"),)
        with pytest.raises(ValueError, match="choices"):
            study.ask()
    fall_silent(tmp_path)
    go_on(two, url)
    assert [trial.state for trial in tried(two, url)] == ["complete"] * 2


def test_a_waiting_trial_that_another_process_has_ended_is_nobodys(tmp_path: Path) -> None:
    """Of two that took it the faster one ends it before the other has drawn its keys."""
    one, two, url = shared(tmp_path, 2)
    with Study.opened(one, NAME, url) as mine:
        first = mine.ask()
        assert first is not None
        finish(mine, first)
    fork(one, NAME, 0, {"model.width": 1.5}, url)
    with Study.opened(one, NAME, url) as mine, Study.opened(two, NAME, url) as theirs:
        taken, again = mine.ask(), theirs._asked(Asking(theirs.study, 2))
        assert taken is not None
        finish(mine, taken)
        finish(theirs, again)
    assert [trial.state for trial in tried(one, url)] == ["complete"] * 2


def test_another_recipe_cannot_join_a_shared_study(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    create(Workspace(tmp_path / "one"), NAME, made_recipe(), 4, url)
    others: list[dict[str, Any]] = [
        {"search.seed": 1},
        {"augment.noise": 0.1},
        {"data.wakeword": "other"},
        {"data.fold": 3},
    ]
    for other in others:
        with pytest.raises(RecipeError, match="has another"):
            create(Workspace(tmp_path / "two"), NAME, made_recipe(other), 4, url)
    assert studies(Workspace(tmp_path / "two")) == []


def test_each_box_of_a_shared_study_has_the_data_where_its_own_recipe_says(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    for name in ("one", "two"):
        manifest = str(tmp_path / name / "clips.csv")
        create(Workspace(tmp_path / name), NAME, made_recipe({"data.manifest": manifest}), 4, url)
    for name in ("one", "two"):
        with Study.opened(Workspace(tmp_path / name), NAME, url) as study:
            assert str(study.recipe.data.manifest) == str(tmp_path / name / "clips.csv")


def test_a_database_that_cannot_be_reached_is_a_sentence(home: Workspace) -> None:
    with pytest.raises(DataError, match="database") as caught:
        create(home, NAME, made_recipe(), 4, "sqlite:////nowhere/at/all.db")
    assert "--storage" in caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:secret@box:port/x",
        "nodatabase://box/x?user=me&password=secret",
        "postgresql://me:secret@box/x",
    ],
)
def test_no_password_is_told_of_a_database_that_is_not_there(home: Workspace, url: str) -> None:
    with pytest.raises(DataError) as caught:
        create(home, NAME, made_recipe(), 4, url)
    told = f"{caught.value} {caught.value.hint}"
    assert "secret" not in told


def test_every_fifth_trial_is_a_fork_of_the_front(tmp_path: Path) -> None:
    trials = whole(tmp_path, 20, fork_every=5)
    forks = [trial for trial in trials if trial.parent is not None]
    assert [trial.number for trial in forks] == [4, 9, 14, 19]
    assert {trial.operation for trial in forks} <= {"perturb", "resample", "swap"}


def test_forks_of_nsga2_become_parents(tmp_path: Path) -> None:
    """A trial counts in a generation only if the sampler had a key of it to propose."""
    home = begun(Workspace(tmp_path), 40, sampler="nsga2", fork_every=4)
    go_on(home)
    with Study.opened(home, NAME, None) as study:
        forks = [t for t in study.trials() if t.user_attrs.get("parent") is not None]
        assert all("NSGAIISampler:generation" in trial.system_attrs for trial in forks)
        place = study.storage.get_study_id_from_name(NAME)
        cached = study.storage.get_study_system_attrs(place)
        chosen = {t for key, ids in cached.items() if "parent" in key for t in ids}
        assert chosen & {trial._trial_id for trial in forks}


def test_a_fork_by_hand_is_tried_next_and_checked(home: Workspace) -> None:
    begun(home, 3)
    with Study.opened(home, NAME, None) as study:
        first = study.ask()
        assert first is not None
        finish(study, first)
    fork(home, NAME, 0, {"model.width": 1.5})
    with pytest.raises(RecipeError, match=r"model\.width: input should be less"):
        fork(home, NAME, 0, {"model.width": 9.0})
    with pytest.raises(DataError, match="no trial 7"):
        fork(home, NAME, 7, {})
    go_on(home)
    by_hand = tried(home)[1]
    assert (by_hand.parent, by_hand.operation) == (0, "by hand")
    assert by_hand.params == {**first.params, "model.width": 1.5}


def test_nsga2_gets_a_key_that_no_person_entered(home: Workspace) -> None:
    begun(home, 2, sampler="nsga2")
    with Study.opened(home, NAME, None) as study:
        first = study.ask()
        assert first is not None
        finish(study, first)
    entered = {"model.width": 1.5, "train.batch_size": 9}
    fork(home, NAME, 0, entered)
    go_on(home)
    params = tried(home)[1].params
    assert {key: params[key] for key in entered} == entered


def test_a_name_that_no_run_can_have_is_refused(home: Workspace) -> None:
    for name in ("a/b", "x" * 40):
        with pytest.raises(RecipeError, match="name: at most 41 letters"):
            create(home, name, made_recipe(), 2)
    assert not home.studies.exists()


def fork_and_lose(home: Workspace) -> None:
    """A trial that is over, and a fork of it by hand that is lost before its keys are drawn."""
    begun(home, 3)
    with Study.opened(home, NAME, None) as study:
        first = study.ask()
        assert first is not None
        finish(study, first)
    fork(home, NAME, 0, {"model.width": 1.5})
    with Study.opened(home, NAME, None) as study, warnings.catch_warnings(action="ignore"):
        study.study.ask()


def test_a_fork_by_hand_survives_a_kill_while_it_is_taken_up(home: Workspace) -> None:
    fork_and_lose(home)
    go_on(home)
    trials = tried(home)
    assert [trial.operation for trial in trials] == ["", "by hand", ""]
    assert trials[1].params["model.width"] == 1.5


def test_a_fork_by_hand_survives_a_kill_while_it_is_put_back_and_is_tried_once(
    home: Workspace,
) -> None:
    """Of such a kill a trial that is not whole, and the same one once more, waiting, are left."""
    fork_and_lose(home)
    fork(home, NAME, 0, {"model.width": 1.5})
    go_on(home)
    assert [trial.operation for trial in tried(home)] == ["", "by hand", ""]


def told(home: Workspace, state: str, outcome: Outcome) -> Asked:
    with Study.opened(home, NAME, None) as study:
        asked = study.ask()
        assert asked is not None
        study.tell(asked, state, outcome)  # type: ignore[arg-type]
        return asked


def test_the_view_tells_what_came_of_each_trial(home: Workspace) -> None:
    begun(home, 5)
    told(home, "complete", Outcome(values=(0.5, 100.0), macs=100, pauc=0.9, seconds=2.0))
    told(home, "stopped", Outcome(why="hopeless", macs=50))
    told(home, "failed", Outcome(why="out of memory"))
    told(home, "complete", Outcome(values=(0.1, 10.0), feasible=False))
    found = view(home, NAME)
    states = [(trial.state, trial.values, trial.why) for trial in found.trials]
    assert states == [
        ("complete", (0.5, 100.0), ""),
        ("stopped", None, "hopeless"),
        ("failed", None, "out of memory"),
        ("complete", (0.1, 10.0), ""),
    ]
    assert (found.front, len(found.hypervolume), found.wanted) == ((0,), 4, 5)
    assert found.space["loss.focal_gamma"] == "0.5 to 4, when loss.kind = focal"
    assert found.importance == {}


def test_a_trial_that_begins_fresh_is_not_measured_against_forks(home: Workspace) -> None:
    begun(home, 3)
    told(home, "complete", Outcome(values=(0.5, 100.0), macs=100, curve=(0.9, 0.5)))
    fork(home, NAME, 0, {"model.width": 1.5})
    told(home, "complete", Outcome(values=(0.1, 90.0), macs=90, curve=(0.2, 0.1)))
    with Study.opened(home, NAME, None) as study:
        assert study.curves(100, forks=False) == [(0.9, 0.5)]
        assert study.curves(100, forks=True) == [(0.9, 0.5), (0.2, 0.1)]
        assert study.curves(95, forks=False) == []


def test_importance_is_a_share_of_each_key(tmp_path: Path) -> None:
    whole(tmp_path, 20)
    importance = view(Workspace(tmp_path), NAME).importance
    assert sum(importance.values()) == pytest.approx(1.0)
    assert max(importance, key=importance.__getitem__) in ("train.lr", "model.width")


def test_another_number_of_trials_can_be_asked_for(home: Workspace) -> None:
    begun(home, 3)
    go_on(home)
    want(home, NAME, 5)
    go_on(home)
    assert len(tried(home)) == view(home, NAME).wanted == 5


def test_a_study_that_is_not_there_names_those_that_are(home: Workspace) -> None:
    begun(home, 3)
    with pytest.raises(DataError, match="no study 'other'") as caught:
        view(home, "other")
    assert "made" in caught.value.hint
    with pytest.raises(DataError, match="already") as caught:
        begun(home, 3)
    assert "--resume made" in caught.value.hint
