#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Four processes that save are killed, rank by rank; two go on, and one with threads: the losses of threads that nobody
# stopped. The files of a checkpoint do not tell processes from threads.
#   resume.sh TRAIN_GPT2 MPIEXEC... (as far as the number of processes)
set -u
trainer=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
losses() { tr -d '\n ' | grep -oE '"losses":\[[^]]+\]'; }
failed=0
fail() {
  echo "FAILED $*"
  failed=1
}

for schedule in flush 2bw; do
  options=(--schedule $schedule --model "layers=6,width=16,heads=2,positions=16" --micro-batches 4 --dropout 0.1
    --rate-shape constant --sample 0)
  straight=$("$trainer" "${options[@]}" --ranks 4 --steps 20 --save-every 10 --keep 2 --save "$work/$schedule-threads" --json - | losses)
  timeout 100 "$@" 4 bash -c 'echo $$ >"$0-$$"; exec "$@"' "$work/pid-$schedule" "$trainer" --transport mpi "${options[@]}" --ranks 4 --steps 1000000 --save-every 10 --keep 1000000 \
    --save "$work/$schedule" >"$work/out" 2>&1 &
  job=$!
  for _ in $(seq 3000); do
    [ -d "$work/$schedule/step-10" ] && break
    sleep 0.02
  done
  kill -9 $(cat "$work/pid-$schedule"-*)
  wait $job && fail "$schedule: the killed job ended well: $(cat "$work/out")"
  diff -q -x training.json "$work/$schedule/step-10" "$work/$schedule-threads/step-10" || fail "$schedule: other files"
  late=$(sed -E 's/"losses":\[([^,]+,){10}/"losses":[/' <<<"$straight")
  two=$(timeout 100 "$@" 2 "$trainer" --transport mpi --resume "$work/$schedule/step-10" --ranks 2 --steps 20 --sample 0 --json - | losses)
  one=$("$trainer" --resume "$work/$schedule/step-10" --ranks 1 --steps 20 --sample 0 --json - | losses)
  if [ -z "$late" ] || [ "$two" != "$late" ] || [ "$one" != "$late" ]; then
    fail "$schedule: straight $late, two processes $two, one $one"
  else
    echo "passed $schedule: $late"
  fi
done

# A rank that cannot write stops all, and leaves the folder as it was.
limited='[ "${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-0}}" = 1 ] && { trap "" XFSZ; ulimit -f 1; }; exec "$@"'
if text=$(timeout 100 "$@" 4 bash -c "$limited" rank "$trainer" --transport mpi --resume "$work/flush" --steps 1000020 \
  --save-every 10 --save "$work/other" --quiet 2>&1); then
  fail "a rank that cannot write: $text"
fi
grep -q 'cannot write .*step-.*: File too large' <<<"$text" || fail "a rank that cannot write says: $text"
[ -z "$(ls -A "$work/other" 2>/dev/null)" ] || fail "left behind: $(ls -A "$work/other")"
exit $failed
