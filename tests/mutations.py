"""Breaks the code on purpose, and sees to it that a test fails each time.

    python -m tests.mutations [NAME ...]

Each mutation is made in a copy of the tracked files, where its test is run. Tests run once in an
untouched copy before: one that fails there would say nothing. Takes some minutes.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]


class Mutation(NamedTuple):
    """One way to break the code.

    Attributes:
      path: The file.
      old: Stands there once.
      new: Stands there instead.
      test: Node id of the test that has to fail.
    """

    path: str
    old: str
    new: str
    test: str


_KILLED = (
    "tests/experiments/test_train.py::"
    "test_a_killed_run_goes_on_as_if_nothing_had_been[kill_in_step-9]"
)
_STOPPED = (
    "tests/experiments/processes/test_stopping.py::"
    "test_a_stopped_run_goes_on_as_if_nothing_had_been"
)
_FINITE = "tests/learning/test_train_step.py::test_the_loss_and_the_gradient_must_both_be_finite"
_TRAINING, _CHECKPOINT = "experiments/runs/training_run.py", "hiertcn_jax/saving/checkpoint.py"

MUTATIONS = {
    "the loader's state is not saved": Mutation(
        _TRAINING,
        "processes.gather_json(self._batches.get_state())",
        "processes.gather_json(iter(self._parts.loader).get_state())",
        _KILLED,
    ),
    "saved behind drawing the next batch": Mutation(
        _TRAINING,
        "batch, info = next(self._batches)\n",
        'batch, info = self.__dict__.pop("_drawn", None) or next(self._batches)\n'
        "        self._drawn = next(self._batches)\n",
        _KILLED,
    ),
    "a lane goes on from the first event of its user": Mutation(
        "data_pipelines/lanes/lanes.py",
        "lane.start(self._dataset.deal.turn(lane.number, epoch, place), event)",
        "lane.start(self._dataset.deal.turn(lane.number, epoch, place), 0)",
        "tests/data_pipelines/lanes/test_loaders.py::test_restores_at_every_step",
    ),
    "the carries are not restored": Mutation(
        _TRAINING,
        "self._state = self._checkpoints.restore(step, self._state, binding, parts, known)",
        "fresh = self._state\n"
        "        self._state = self._checkpoints.restore(step, fresh, binding, parts, known)\n"
        "        self._state = self._state._replace(carry=fresh.carry)",
        _KILLED,
    ),
    "the moments are not restored": Mutation(
        _TRAINING,
        "self._state = self._checkpoints.restore(step, self._state, binding, parts, known)",
        "fresh = self._state\n"
        "        self._state = self._checkpoints.restore(step, fresh, binding, parts, known)\n"
        "        self._state = self._state._replace(opt_state=fresh.opt_state)",
        _KILLED,
    ),
    "the sums of the line to come are lost": Mutation(
        _TRAINING, 'self._sums = read_fields(Sums, saved["sums"], "sums")', "", _KILLED
    ),
    "the best validation so far is forgotten": Mutation(
        _TRAINING,
        'read_fields(Progress, saved["progress"], "progress")',
        'read_fields(Progress, saved["progress"] | {"best": None}, "progress")',
        _KILLED,
    ),
    "the reset of the GRU at a user's start is dropped": Mutation(
        "hiertcn_jax/layers/gru_scan.py",
        "new_bh = jnp.where(slot.starts_user_bs[:, None], start_h, new_bh)",
        "new_bh = new_bh + 0 * start_h",
        "tests/layers/test_gru.py::test_a_user_starts_afresh_whatever_was_before",
    ),
    "a convolution reads over the start of a session": Mutation(
        "hiertcn_jax/layers/tcn.py",
        "jnp.where((position_bl >= offset)[..., None], tap_blc, 0)",
        "tap_blc",
        "tests/layers/test_tcn.py::test_no_tap_reads_over_the_start_of_a_session",
    ),
    "lines behind the checkpoint stay in metrics.jsonl": Mutation(
        "experiments/runs/journal.py",
        "        keep_lines_until(path, step, validation_due)\n",
        "",
        "tests/experiments/runs/test_journal.py::test_a_journal_goes_on_behind_its_step",
    ),
    "sizes are compared, and no hashes": Mutation(
        "hiertcn_jax/saving/checksums.py",
        "    if now == written:\n",
        '    if now["bytes"] == written["bytes"]:\n',
        "tests/saving/test_checkpoint.py::test_whatever_happens_to_a_file_names_it",
    ),
    "an older checkpoint is used without leave": Mutation(
        "experiments/runs/resume.py",
        "    if not allow_older:\n",
        "    if False:\n",
        "tests/experiments/runs/test_resume.py::"
        "test_a_damaged_newest_checkpoint_stops_the_run_and_nothing_changes",
    ),
    "a checkpoint gets its name before its checksums": Mutation(
        _CHECKPOINT,
        "            write_checksums(aside)\n            self._whole.discard(step)\n",
        "            self._whole.discard(step)\n"
        "            os.rename(aside, self._directory / str(step))\n"
        "            write_checksums(self._directory / str(step))\n"
        "            os.rename(self._directory / str(step), aside)\n",
        "tests/saving/test_checkpoint.py::test_a_checkpoint_without_its_checksums_gets_no_name",
    ),
    "the best checkpoint is not kept": Mutation(
        _CHECKPOINT,
        "set(self.steps()[:-2]) - {best}",
        "set(self.steps()[:-2])",
        "tests/saving/test_checkpoint.py::test_the_newest_two_and_the_best_are_kept",
    ),
    "other settings are taken": Mutation(
        _CHECKPOINT,
        "        if differing:\n",
        "        if False:\n",
        "tests/saving/test_checkpoint.py::test_other_settings_are_refused_by_the_name_of_each_field",
    ),
    "two runs may share a workdir": Mutation(
        "experiments/runs/locking.py",
        "            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "            pass\n",
        "tests/experiments/runs/test_resume.py::test_the_lock_names_who_holds_it_and_goes_with_them",
    ),
    "the run of a trial outlives its worker": Mutation(
        "experiments/processes/child.py",
        "        _end_with_parent()\n",
        "        pass\n",
        "tests/experiments/test_sweep.py::"
        "test_a_stopped_or_killed_sweep_goes_on_with_its_trial[killed with SIGKILL]",
    ),
    "a command begins although its parent has ended": Mutation(
        "experiments/processes/child.py",
        "    if os.getppid() != parent:\n",
        "    if False:\n",
        "tests/experiments/processes/test_child.py::"
        "test_a_command_whose_parent_has_ended_before_does_not_begin",
    ),
    "a workdir that another process has fails its trial": Mutation(
        "experiments/sweeping/trials.py",
        "        if REFUSAL not in word:\n",
        "        if True:\n",
        "tests/experiments/sweeping/test_trials.py::"
        "test_another_run_in_the_workdir_is_waited_for[it was faster than our run]",
    ),
    "a signal ends the run without saving its step": Mutation(
        "experiments/runs/train_loop.py", "training.save_if_behind()", "pass", _STOPPED
    ),
    "a validation that was cut short is not made up for": Mutation(
        _TRAINING,
        "        except _CutShortError:\n",
        "        except _CutShortError:\n            self.progress.validation_due = False\n",
        _STOPPED,
    ),
    "signals are caught behind the imports alone": Mutation(
        "data_pipelines/__init__.py",
        "\nend_on_signals()\n",
        "\n",
        "tests/data_pipelines/commands/test_starting.py::test_a_signal_during_the_imports_is_one_line",
    ),
    "a validation goes on behind a signal": Mutation(
        _TRAINING,
        "            if stop.asked:\n",
        "            if False:\n",
        "tests/experiments/processes/test_stopping.py::"
        "test_behind_a_signal_nothing_is_done_but_what_is_under_way_and_one_save",
    ),
    "the same signal again is left to JAX": Mutation(
        "experiments/processes/stopping.py",
        "            _catch_once(kind)\n",
        "            pass\n",
        "tests/experiments/processes/test_stopping.py::"
        "test_the_same_signal_again_ends_one_of_several_processes_at_once[15]",
    ),
    "a stop of one process is a failure of the others": Mutation(
        "experiments/processes/cluster.py",
        "    os._exit(int(code))\n",
        "    os._exit(1)\n",
        "tests/experiments/processes/test_cluster.py::test_all_end_as_the_one_that_was_stopped_or_failed",
    ),
    "numbers of a condition are evaluated": Mutation(
        "data_pipelines/raw/conditions.py",
        "number = float(text) if",
        "number = eval(text) if",
        "tests/hostile/test_nothing_is_executed.py::test_no_module_can_execute_what_it_reads",
    ),
    "a flagfile may include itself": Mutation(
        "data_pipelines/commands/flagfiles.py",
        "    if path in within:\n",
        "    if False:\n",
        "tests/hostile/test_flagfiles.py::test_files_that_include_each_other",
    ),
    "TFDS may import any class": Mutation(
        "data_pipelines/raw/tfds_metadata.py",
        "            if not name.startswith(_OWN_CLASSES):\n",
        "            if False:\n",
        "tests/hostile/test_prepared_directory.py::"
        "test_files_that_the_manifest_vouches_for_are_not_believed",
    ),
    "links lead out of a prepared directory": Mutation(
        "data_pipelines/histories/prepared_files.py",
        "    if not path.resolve().is_relative_to(directory.resolve()):\n",
        "    if False:\n",
        "tests/hostile/test_manifest.py::test_what_lies_elsewhere_is_not_opened",
    ),
    "a loss that is not finite is taken": Mutation(
        "hiertcn_jax/learning/train_step.py",
        "finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)",
        "finite = jnp.isfinite(grad_norm)",
        _FINITE,
    ),
    "a gradient that is not finite is taken": Mutation(
        "hiertcn_jax/learning/train_step.py",
        "finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)",
        "finite = jnp.isfinite(loss)",
        _FINITE,
    ),
    "a checkpoint is removed before another takes its place": Mutation(
        _CHECKPOINT,
        "            os.rename(place, replaced)\n",
        "            self._remove(step)\n",
        "tests/saving/test_checkpoint.py::"
        "test_a_kill_while_a_checkpoint_is_replaced_leaves_one_of_its_step",
    ),
    "a checkpoint that was renamed is gone on from": Mutation(
        _TRAINING,
        "        require_step(self._directory / str(step), self._state, step)\n",
        "",
        "tests/experiments/runs/test_resume.py::test_a_checkpoint_that_was_renamed_is_not_gone_on_from",
    ),
    "the lanes of a loader's state are taken as they are": Mutation(
        "data_pipelines/lanes/lanes.py",
        "        _require_counts(state)\n",
        "",
        "tests/data_pipelines/lanes/test_lanes.py::"
        "test_states_that_no_lanes_have_are_refused_by_the_field",
    ),
    "what is saved of a run is taken as it is": Mutation(
        "experiments/runs/saved_fields.py",
        "        if not fits(values[field]):\n",
        "        if False:\n",
        "tests/experiments/runs/test_saved_fields.py::test_a_value_that_does_not_fit_is_named",
    ),
    "what a checkpoint was worth is taken as it is": Mutation(
        _CHECKPOINT,
        "if type(monitored) not in (int, float) or not -math.inf < monitored < math.inf:",
        "if False:",
        "tests/saving/test_checkpoint.py::test_what_a_checkpoint_was_worth_is_a_number",
    ),
    "JSON without end is followed": Mutation(
        "hiertcn_jax/saving/json_files.py",
        "    except RecursionError as error:\n",
        "    except KeyError as error:\n",
        "tests/saving/test_checkpoint_damage.py::test_checksums_that_are_none_are_one_line",
    ),
    "another schema is taken": Mutation(
        "hiertcn_jax/saving/checkpoint_damage.py",
        "    if version == SCHEMA_VERSION:\n",
        "    if True:\n",
        "tests/saving/test_checkpoint.py::test_another_schema_is_refused",
    ),
    "a saved field that this program does not know is ignored": Mutation(
        _CHECKPOINT,
        "        if known is not None:\n",
        "        if False:\n",
        "tests/saving/test_checkpoint.py::test_a_field_that_this_program_does_not_know_is_named",
    ),
    "an error of writing names no file": Mutation(
        "experiments/runs/files.py",
        "        raise OSError(error.errno, error.strerror or str(error), str(path)) from error\n",
        "        raise\n",
        "tests/experiments/runs/test_journal.py::test_what_cannot_be_written_is_named",
    ),
    "a file gets its name before it is on the disk": Mutation(
        "experiments/runs/files.py",
        "                os.fsync(file.fileno())\n",
        "                pass\n",
        "tests/experiments/runs/test_disk.py::test_a_file_is_on_the_disk_before_it_gets_its_name",
    ),
    "the lock of a workdir is given back before it is evaluated": Mutation(
        "experiments/train.py",
        "            _evaluate(settings, data)\n            processes",
        "        _evaluate(settings, data)\n        processes",
        "tests/experiments/runs/test_resume.py::test_nobody_else_comes_until_the_results_are_written",
    ),
    "steps that are not finite are skipped without end": Mutation(
        "experiments/runs/meter.py",
        "            if sums.skipped_in_row >= self._max_bad_steps:\n",
        "            if False:\n",
        "tests/experiments/runs/test_bad_steps.py::test_a_limit_that_was_lowered_is_the_one_that_is_said",
    ),
    "the lanes of other processes are not saved": Mutation(
        "data_pipelines/lanes/loaders.py",
        "            merged[name] = list(itertools.chain.from_iterable(values))\n",
        "            merged[name] = value\n",
        "tests/data_pipelines/lanes/test_loaders.py::test_restores_on_another_number_of_processes",
    ),
    "a manifest may name files elsewhere": Mutation(
        "data_pipelines/histories/prepared_files.py",
        """if not parts or ".." in parts or parts[0] == "/" or""",
        "if not parts or",
        "tests/data_pipelines/histories/test_prepared_files.py::test_no_name_leads_out_of_the_directory",
    ),
}


def copy_tracked(directory: Path) -> None:
    """The tracked files, as they are now."""
    command = ["git", "ls-files", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.split("\0")[:-1]:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, directory / name)


def failed_tests(directory: Path, tests: list[str]) -> list[str]:
    """Node ids of those that fail, up to the first; one that cannot be begun is none.

    Raises:
      RuntimeError: Something else is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="hiertcn_jax_mutations_") as parent:
        report = Path(parent) / "report.xml"
        # This form of the report names files, so that a node id can be put together again.
        asked = [f"--junitxml={report}", "-o", "junit_family=xunit1"]
        options = ["-n0", "-x", "--color=no", "-p", "no:cacheprovider", *asked]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=directory, capture_output=True, text=True, check=False,
        )  # fmt: skip
        cases = ElementTree.parse(report).iter("testcase") if report.exists() else ()
        failed = [
            f"{case.get('file')}::{case.get('name')}"
            for case in cases
            if case.find("failure") is not None
        ]
    if done.returncode != (1 if failed else 0):
        raise RuntimeError(f"pytest {' '.join(tests)}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return failed


def main(names: list[str]) -> int:
    """Tries these mutations; how many of them no test saw."""
    mutations = {name: MUTATIONS[name] for name in names or MUTATIONS}
    survived = 0
    with tempfile.TemporaryDirectory(prefix="hiertcn_jax_mutations_") as parent:
        directory = Path(parent) / "hiertcn_jax"
        copy_tracked(directory)
        tests = sorted({mutation.test for mutation in mutations.values()})
        if failed := failed_tests(directory, tests):
            raise RuntimeError(f"{failed[0]} fails without a mutation")
        for name, mutation in mutations.items():
            path = directory / mutation.path
            before = path.read_text(encoding="utf-8")
            path.write_text(before.replace(mutation.old, mutation.new), encoding="utf-8")
            failed = failed_tests(directory, [mutation.test])
            path.write_text(before, encoding="utf-8")
            survived += not failed
            print(f"{name}: {failed[0] if failed else 'NO TEST FAILS'}", flush=True)
    print(f"{len(mutations)} mutations, {survived} of them unseen")
    return survived


if __name__ == "__main__":
    if unknown := set(sys.argv[1:]) - set(MUTATIONS):
        sys.exit(f"no such mutation: {', '.join(sorted(unknown))}")
    sys.exit(main(sys.argv[1:]) > 0)
