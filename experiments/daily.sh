#!/usr/bin/env bash
# One day of a service: append yesterday's events, continue the run, export it if it isn't worse.
#
#     experiments/daily.sh ROOT EVENTS DAY        such as: daily.sh /srv/news clicks.parquet 2017-10-11
#
# ROOT/data/current, runs/current and exports/current are links to the newest log, run and export.
# Make the first ones by hand (docs/continual.md). DAY is the day of EVENTS, UTC; its hours from
# GATE on are learned by neither run: on them the new run has to be as good as the current one.
# Repeat a day that was interrupted: finished steps are kept. Exit code 3: the new run was worse.
set -euo pipefail

root=$1 events=$2 day=$3
hiertcn=${HIERTCN:-hiertcn}
gate=${GATE:-21:00}
# Models without --memory=world or followers: EVALUATE="--catalogue=live".
evaluate=${EVALUATE:---catalogue=live --counts=live}

data=$root/data/$day run=$root/runs/$day export=$root/exports/$day

[ -e "$data" ] || $hiertcn prepare --previous="$(readlink -f "$root/data/current")" \
    --input="$events" --output_dir="$data" --valid_after="$day" --test_after="${day}T$gate"
ln -sfn "$day" "$root/data/current"

$hiertcn train --continue_from="$(readlink -f "$root/runs/current")" --data_dir="$data" \
    --workdir="$run" --fit_on=train_valid

score() { # The mrr of a run on the hours from GATE on.
    # shellcheck disable=SC2086
    $hiertcn evaluate --workdir="$1" --data_dir="$data" --split=test $evaluate >&2
    newest=$(ls -t "$1"/test.*catalogue_live*.json | head -n 1)
    python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["all"]["mrr"])' "$newest"
}
before=$(score "$(readlink -f "$root/runs/current")")
after=$(score "$run")
echo "mrr on $day from $gate on: $before before, $after now"
if ! python3 -c "import sys; sys.exit($after < $before)"; then
    echo "worse: the current run and export stay" >&2
    exit 3
fi

[ -e "$export" ] || $hiertcn export --workdir="$run" --output_dir="$export"
ln -sfn "$day" "$root/runs/current"
ln -sfn "$day" "$root/exports/current"
