"""Breaks the code on purpose, and sees to it that a test fails each time.

    python -m tests.mutations [NAME ...]     these mutations, or all
    python -m tests.mutations --write_docs   writes their table in docs/reliability.md

Each mutation is made in a copy of the tracked files, where its test is run. Tests run once in an
untouched copy first: one that fails there would say nothing. Takes some minutes.
"""

import sys
import tempfile
from pathlib import Path

from tests.mutate import ROOT, Mutation, copy_tracked, failed_tests, mutated

DOCS = ROOT / "docs" / "reliability.md"
_BEGIN, _END = "<!-- tests/mutations.py writes this table -->\n", "<!-- end of the table -->\n"

_TRAINING = "experiments/runs/training_run.py::Training"
_CHECKPOINTS = "hiertcn_jax/saving/checkpoint.py::Checkpoints"
_KILLED = (
    "tests/experiments/test_train.py::"
    "test_a_killed_run_resumes_and_ends_like_an_undisturbed_one[kill_in_step-9]"
)
_STOPPED = (
    "tests/experiments/processes/test_stopping.py::"
    "test_a_stopped_run_resumes_and_ends_like_an_undisturbed_one"
)
_FINITE = "tests/learning/test_train_step.py::test_the_loss_and_the_gradient_must_both_be_finite"

MUTATIONS = {
    "the loader's state is not saved": Mutation(
        f"{_TRAINING}.save",
        "self._batches.get_state()",
        "iter(self._parts.loader).get_state()",
        _KILLED,
    ),
    "a checkpoint is saved after the next batch is drawn": Mutation(
        f"{_TRAINING}.advance",
        "batch, info = next(self._batches)",
        "batch, info = self.__dict__.pop('_drawn', None) or next(self._batches)\n"
        "self._drawn = next(self._batches)",
        _KILLED,
    ),
    "a lane resumes at the first event of its user": Mutation(
        "data_pipelines/lanes/lanes.py::LanesIterator.set_state",
        "lane.start(self._dataset.deal.turn(lane.number, epoch, position), event)",
        "lane.start(self._dataset.deal.turn(lane.number, epoch, position), 0)",
        "tests/data_pipelines/lanes/test_loaders.py::test_restores_at_every_step",
    ),
    "the carries are not restored": Mutation(
        f"{_TRAINING}._restore",
        "self._checkpoints.restore(...)",
        "OLD._replace(carry=self._state.carry)",
        _KILLED,
    ),
    "the moments are not restored": Mutation(
        f"{_TRAINING}._restore",
        "self._checkpoints.restore(...)",
        "OLD._replace(opt_state=self._state.opt_state)",
        _KILLED,
    ),
    "the sums of the next line of metrics.jsonl are lost": Mutation(
        f"{_TRAINING}._take_up", "self._sums = Sums.from_dict(...)", "pass", _KILLED
    ),
    "the best validation so far is forgotten": Mutation(
        f"{_TRAINING}._take_up",
        'Progress.from_dict(saved["progress"], "progress")',
        'Progress.from_dict(saved["progress"] | {"best": None}, "progress")',
        _KILLED,
    ),
    "the GRU is not reset at the start of a user": Mutation(
        "hiertcn_jax/layers/gru_scan.py::gru_scan.step",
        "jnp.where(slot.starts_user_bs[:, None], start_h, new_bh)",
        "new_bh + 0 * start_h",
        "tests/layers/test_gru.py::test_a_user_starts_afresh_whoever_came_before",
    ),
    "a convolution reads over the start of a session": Mutation(
        "hiertcn_jax/layers/tcn.py::CausalConv",
        "jnp.where((position_bl >= offset)[..., None], tap_blc, 0)",
        "tap_blc",
        "tests/layers/test_tcn.py::test_no_tap_reads_past_the_start_of_a_session",
    ),
    "lines after the checkpoint's step stay in metrics.jsonl": Mutation(
        "experiments/runs/journal.py::Journal",
        "keep_lines_until(...)",
        "pass",
        "tests/experiments/runs/test_journal.py::test_a_journal_continues_after_its_step",
    ),
    "sizes of files are compared instead of hashes": Mutation(
        "hiertcn_jax/saving/checksums.py::_compare",
        "now == written",
        'now["bytes"] == written["bytes"]',
        "tests/saving/test_checkpoint.py::test_any_damage_to_a_file_names_the_file",
    ),
    "an older checkpoint is used without --allow_older_checkpoint": Mutation(
        "experiments/runs/resume.py::leave_whole",
        "not allow_older",
        "False",
        "tests/experiments/runs/test_resume.py::"
        "test_a_damaged_newest_checkpoint_stops_the_run_and_nothing_changes",
    ),
    "a checkpoint gets its name before its checksums": Mutation(
        f"{_CHECKPOINTS}._finish",
        "write_checksums(aside)",
        "os.rename(aside, self._directory / str(step))\n"
        "write_checksums(self._directory / str(step))\n"
        "os.rename(self._directory / str(step), aside)",
        "tests/saving/test_checkpoint.py::test_a_checkpoint_without_its_checksums_gets_no_name",
    ),
    "the best checkpoint is not kept": Mutation(
        f"{_CHECKPOINTS}._tidy",
        "set(self.steps()[:-2]) - {best}",
        "set(self.steps()[:-2])",
        "tests/saving/test_checkpoint.py::test_the_newest_two_and_the_best_are_kept",
    ),
    "a checkpoint with other settings is restored": Mutation(
        f"{_CHECKPOINTS}.restore",
        "differences(saved)",
        "[]",
        "tests/saving/test_checkpoint.py::test_other_settings_are_refused_by_the_name_of_each_field",
    ),
    "two runs may share a workdir": Mutation(
        "experiments/runs/locking.py::_lock",
        "fcntl.flock(...)",
        "pass",
        "tests/experiments/runs/test_resume.py::test_the_lock_names_who_holds_it_and_goes_with_them",
    ),
    "the run of a trial outlives its worker": Mutation(
        "experiments/processes/child.py::main",
        "_end_with_parent()",
        "pass",
        "tests/experiments/processes/test_child.py::"
        "test_a_command_ends_with_a_parent_that_is_killed[False]",
    ),
    "a command starts although its parent has ended": Mutation(
        "experiments/processes/child.py::main",
        "os.getppid() != parent",
        "False",
        "tests/experiments/processes/test_child.py::"
        "test_a_command_whose_parent_has_ended_before_does_not_begin",
    ),
    "a workdir that another process has locked fails its trial": Mutation(
        "experiments/sweeping/trials.py",
        "REFUSAL not in word",
        "True",
        "tests/experiments/sweeping/test_trials.py::"
        "test_another_run_in_the_workdir_is_waited_for[it was faster than our run]",
    ),
    "a signal ends the run without saving its step": Mutation(
        "experiments/runs/train_loop.py::_go_through",
        "training.save_if_behind()",
        "pass",
        _STOPPED,
    ),
    "a validation that a signal cut short is not repeated": Mutation(
        f"{_TRAINING}.judge",
        "return None",
        "self.progress.validation_due = False\nreturn None",
        _STOPPED,
    ),
    "signals are caught only after the imports": Mutation(
        "data_pipelines/__init__.py",
        "end_on_signals()",
        "pass",
        "tests/data_pipelines/commands/test_starting.py::test_a_signal_during_the_imports_is_one_line",
    ),
    "a stopped command ends as Python does": Mutation(
        "data_pipelines/commands/command.py::_StoppedEnd._end",
        "os._exit(self.code)",
        "pass",
        "tests/data_pipelines/commands/test_command.py::"
        "test_a_command_that_compiles_is_stopped_without_a_crash",
    ),
    "a validation continues after a signal": Mutation(
        f"{_TRAINING}.judge",
        "stop.asked",
        "False",
        "tests/experiments/processes/test_stopping.py::"
        "test_after_a_signal_only_the_current_work_and_one_save_happen",
    ),
    "a repeated signal is left to JAX": Mutation(
        "experiments/processes/stopping.py::StopSignals",
        "_catch_once(...)",
        "pass",
        "tests/experiments/processes/test_stopping.py::"
        "test_the_same_signal_again_ends_one_of_several_processes_at_once[15]",
    ),
    "a stop of one process is a failure of the others": Mutation(
        "experiments/processes/cluster.py::_exit",
        "os._exit(int(code))",
        "os._exit(1)",
        "tests/experiments/processes/test_cluster.py::test_all_processes_end_like_the_one_that_was_stopped_or_failed",
    ),
    "numbers of a condition are evaluated": Mutation(
        "data_pipelines/raw/conditions.py::_number",
        "float(text)",
        "eval(text)",
        "tests/hostile/test_nothing_is_executed.py::test_no_module_can_execute_what_it_reads",
    ),
    "a flagfile may include itself": Mutation(
        "data_pipelines/commands/flagfiles.py::_lines",
        "path in within",
        "False",
        "tests/hostile/test_flagfiles.py::test_files_that_include_each_other",
    ),
    "TFDS may import any class": Mutation(
        "data_pipelines/raw/tfds_metadata.py::require_plain_metadata",
        "not name.startswith(_OWN_CLASSES)",
        "False",
        "tests/hostile/test_prepared_directory.py::"
        "test_wrong_files_with_valid_checksums_are_refused",
    ),
    "links lead out of a prepared directory": Mutation(
        "data_pipelines/histories/prepared_files.py::require_within",
        "not path.resolve().is_relative_to(...)",
        "False",
        "tests/hostile/test_manifest.py::test_files_outside_the_directory_are_not_opened",
    ),
    "a step whose loss is not finite is taken": Mutation(
        "hiertcn_jax/learning/train_step.py",
        "jnp.isfinite(loss) & jnp.isfinite(grad_norm)",
        "jnp.isfinite(grad_norm)",
        _FINITE,
    ),
    "a step whose gradient is not finite is taken": Mutation(
        "hiertcn_jax/learning/train_step.py",
        "jnp.isfinite(loss) & jnp.isfinite(grad_norm)",
        "jnp.isfinite(loss)",
        _FINITE,
    ),
    "a checkpoint is removed before another takes its place": Mutation(
        f"{_CHECKPOINTS}._give_name",
        "os.rename(path, replaced)",
        "self._remove(step)",
        "tests/saving/test_checkpoint.py::"
        "test_a_kill_while_a_checkpoint_is_replaced_leaves_one_of_its_step",
    ),
    "a run resumes from a checkpoint that was renamed": Mutation(
        f"{_TRAINING}._restore",
        "require_step(...)",
        "pass",
        "tests/experiments/runs/test_resume.py::test_a_renamed_checkpoint_does_not_resume",
    ),
    "the lanes of a loader's state are not checked": Mutation(
        "data_pipelines/lanes/lanes.py::LanesIterator.set_state",
        "_require_counts(...)",
        "pass",
        "tests/data_pipelines/lanes/test_lanes.py::test_impossible_states_are_refused_by_field",
    ),
    "the saved fields of a run are not checked": Mutation(
        "hiertcn_jax/settings.py::Field.check",
        "not self.kind.fits(value)",
        "False",
        "tests/experiments/runs/test_meter.py::test_a_value_that_does_not_fit_is_named",
    ),
    "the metric of a checkpoint is not checked": Mutation(
        "hiertcn_jax/saving/checkpoint_damage.py",
        "type(monitored) not in (int, float) or not -math.inf < monitored < math.inf",
        "False",
        "tests/saving/test_checkpoint.py::test_what_a_checkpoint_was_worth_is_a_number",
    ),
    "JSON nested without end is followed": Mutation(
        "hiertcn_jax/saving/json_files.py::parse_json",
        "RecursionError",
        "KeyError",
        "tests/saving/test_checkpoint_damage.py::test_checksums_that_are_none_are_one_line",
    ),
    "a checkpoint of another schema is read": Mutation(
        "hiertcn_jax/saving/checkpoint_damage.py::schema_difference",
        "type(version) is int and version in READABLE_VERSIONS",
        "True",
        "tests/saving/test_checkpoint.py::test_another_schema_is_refused",
    ),
    "a saved field that this program does not know is ignored": Mutation(
        "hiertcn_jax/saving/checkpoint.py::unknown_fields",
        "name not in known",
        "False",
        "tests/saving/test_checkpoint.py::test_a_field_that_this_program_does_not_know_is_named",
    ),
    "an error of writing names no file": Mutation(
        "experiments/runs/files.py::naming",
        "raise OSError(number, ..., ...) from error",
        "pass",
        "tests/experiments/runs/test_journal.py::test_what_cannot_be_written_is_named",
    ),
    "a file gets its name before it is on the disk": Mutation(
        "experiments/runs/files.py::whole_file",
        "os.fsync(...)",
        "pass",
        "tests/experiments/runs/test_disk.py::test_a_file_is_on_the_disk_before_it_gets_its_name",
    ),
    "the lock of a workdir is released before the run is evaluated": Mutation(
        "experiments/train.py::main",
        "with lock_workdir(settings.workdir):\n"
        "    _evaluate(settings, data, _train(settings, data, before).plan)\n"
        "    processes.wait_for_all('done')",
        "with lock_workdir(settings.workdir):\n"
        "    plan = _train(settings, data, before).plan\n"
        "_evaluate(settings, data, plan)\n"
        "processes.wait_for_all('done')",
        "tests/experiments/runs/test_resume.py::test_the_lock_is_held_until_the_results_are_written",
    ),
    "steps that are not finite are skipped without end": Mutation(
        "experiments/runs/meter.py::Meter.read",
        "sums.skipped_in_row >= self._max_bad_steps",
        "False",
        "tests/experiments/runs/test_bad_steps.py::test_the_message_has_the_current_limit",
    ),
    "the lanes of other processes are not saved": Mutation(
        "data_pipelines/lanes/loaders.py::merge_states",
        "list(itertools.chain.from_iterable(values))",
        "value",
        "tests/data_pipelines/lanes/test_loaders.py::test_restores_on_another_number_of_processes",
    ),
    "a manifest may name files elsewhere": Mutation(
        "data_pipelines/histories/prepared_files.py::verify_files",
        r"""not parts or ".." in parts or parts[0] == "/" or "\\" in name or "\0" in name""",
        r"""not parts or "\\" in name or "\0" in name""",
        "tests/data_pipelines/histories/test_prepared_files.py::test_no_name_leads_out_of_the_directory",
    ),
}


def docs_table() -> str:
    """The table of docs/reliability.md: what is broken, and the test that fails."""
    rows = []
    for name, mutation in MUTATIONS.items():
        path, test = mutation.test.split("[")[0].removeprefix("tests/").split("::")
        rows.append(f"| {name} | `{path}` | `{test}` |\n")
    return "| change | test file | test that fails |\n|---|---|---|\n" + "".join(rows)


def with_docs_table(docs: str) -> str:
    """The text of docs/reliability.md with the table as it should be."""
    before, _, rest = docs.partition(_BEGIN)
    return f"{before}{_BEGIN}\n{docs_table()}\n{_END}{rest.partition(_END)[2]}"


def main(names: list[str]) -> int:
    """Tries these mutations, all where none is named; how many of them no test saw."""
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
            path.write_text(mutated(mutation, before), encoding="utf-8")
            failed = failed_tests(directory, [mutation.test])
            path.write_text(before, encoding="utf-8")
            survived += not failed
            print(f"{name}: {failed[0] if failed else 'NO TEST FAILS'}", flush=True)
    print(f"{len(mutations)} mutations, {survived} of them unseen")
    return survived


if __name__ == "__main__":
    if sys.argv[1:] == ["--write_docs"]:
        DOCS.write_text(with_docs_table(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
        sys.exit()
    if unknown := set(sys.argv[1:]) - set(MUTATIONS):
        sys.exit(f"no such mutation: {', '.join(sorted(unknown))}")
    sys.exit(main(sys.argv[1:]) > 0)
