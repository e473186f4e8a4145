#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The trainer over processes gives the losses of the trainer over threads, to the last digit, under every schedule.
#   compare.sh TRAIN_GPT2 TRANSPORT BACKEND "SCHEDULE..." LAUNCHER... (as far as the number of processes)
set -u
trainer=$1
transport=$2
backend=$3
schedules=$4
shift 4
losses() { tr -d '\n ' | grep -oE '"losses":\[[^]]+\]'; }
failed=0
for schedule in $schedules; do
  options=(--backend "$backend" --schedule "$schedule" --ranks 4 --model "layers=8,width=16,heads=2,positions=16"
    --micro-batches 4 --steps 4 --json -)
  threads=$("$trainer" "${options[@]}" | losses)
  processes=$(timeout 100 "$@" 4 "$trainer" --transport "$transport" "${options[@]}" | losses)
  if [ -z "$threads" ] || [ "$threads" != "$processes" ]; then
    echo "FAILED $schedule: threads $threads, processes $processes"
    failed=1
  else
    echo "passed $schedule: $threads"
  fi
done

# As many processes as ranks, or a sentence.
if text=$(timeout 100 "$@" 4 "$trainer" --transport "$transport" --ranks 3 2>&1) ||
  ! grep -qE '4 processes.* but --ranks is 3; start as many' <<<"$text"; then
  echo "FAILED: 4 processes for 3 ranks: $text"
  failed=1
fi
exit $failed
