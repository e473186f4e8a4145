#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The trainer over processes gives the losses of the trainer over threads, to the last digit, under every schedule.
#   compare.sh TRAIN_GPT2 MPIEXEC...
set -u
trainer=$1
shift
export OPENBLAS_NUM_THREADS=1
losses() { tr -d '\n ' | grep -oE '"losses":\[[^]]+\]'; }
failed=0
for schedule in sequential gpipe flush interleaved 1f1b 1f1b-vsync 2bw; do
  options=(--schedule $schedule --ranks 4 --model "layers=8,width=16,heads=2,positions=16" --micro-batches 4 --steps 4 --json -)
  threads=$("$trainer" "${options[@]}" | losses)
  processes=$(timeout 100 "$@" "$trainer" --transport mpi "${options[@]}" | losses)
  if [ -z "$threads" ] || [ "$threads" != "$processes" ]; then
    echo "FAILED $schedule: threads $threads, processes $processes"
    failed=1
  else
    echo "passed $schedule: $threads"
  fi
done

# As many processes as ranks, or a sentence.
if text=$("$@" "$trainer" --transport mpi --ranks 3 2>&1) || ! grep -q 'mpirun started 4 processes, but --ranks is 3' <<<"$text"; then
  echo "FAILED: 4 processes for 3 ranks: $text"
  failed=1
fi
exit $failed
