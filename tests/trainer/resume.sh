#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Four processes that save are killed, rank by rank; two go on, and one with threads (as many where the schedule's
# mathematics depends on how many there are, and others are refused): the losses of threads that nobody stopped. The files of
# a checkpoint do not tell processes from threads.
#   resume.sh TRAIN_GPT2 TRANSPORT BACKEND "SCHEDULE..." LAUNCHER... (as far as the number of processes)
set -u
trainer=$1
transport=$2
backend=$3
schedules=$4
shift 4
. "$(dirname "$0")/checks.sh"
losses() { tr -d '\n ' | grep -oE '"losses":\[[^]]+\]'; }
launcher=("$@")
launch() { timeout -k 5 100 "${launcher[@]}" "$@"; }

for schedule in $schedules; do
  options=(--schedule $schedule --model "layers=6,width=16,heads=2,positions=16" --micro-batches 4 --dropout 0.1
    --rate-shape constant --sample 0 --backend $backend)
  straight=$("$trainer" "${options[@]}" --ranks 4 --steps 20 --save-every 10 --keep 2 --save "$work/$schedule-threads" --json - | losses)
  launch 4 bash -c 'echo $$ >"$0-$$"; exec "$@"' "$work/pid-$schedule" "$trainer" --transport "$transport" "${options[@]}" --ranks 4 \
    --steps 1000000 --save-every 10 --keep 1000000 --save "$work/$schedule" >"$work/out" 2>&1 &
  job=$!
  for _ in $(seq 1500); do
    [ -d "$work/$schedule/step-10" ] || ! kill -0 $job 2>/dev/null && break
    sleep 0.02
  done
  [ -d "$work/$schedule/step-10" ]
  came=$?
  kill -9 $(cat "$work/pid-$schedule"-*)
  wait $job && fail "$schedule: the killed job ended well: $(cat "$work/out")"
  if [ $came != 0 ]; then
    fail "$schedule: it never came to step 10: $(cat "$work/out")"
    continue
  fi
  diff -q -x training.json "$work/$schedule/step-10" "$work/$schedule-threads/step-10" || fail "$schedule: other files"
  late=$(sed -E 's/"losses":\[([^,]+,){10}/"losses":[/' <<<"$straight")
  case $schedule in
    1f1b*) many=4 few=4 ;;
    *) many=2 few=1 ;;
  esac
  processes=$(launch $many "$trainer" --transport "$transport" --resume "$work/$schedule/step-10" --ranks $many --steps 20 --sample 0 --json - | losses)
  threads=$("$trainer" --resume "$work/$schedule/step-10" --ranks $few --steps 20 --sample 0 --json - | losses)
  if [ -z "$late" ] || [ "$processes" != "$late" ] || [ "$threads" != "$late" ]; then
    fail "$schedule: straight $late, $many processes $processes, $few threads $threads"
  else
    echo "passed $schedule: $late"
  fi
  [ $many = 4 ] || continue
  if text=$(launch 2 "$trainer" --transport "$transport" --resume "$work/$schedule/step-10" --ranks 2 --steps 20 --quiet 2>&1) ||
    ! grep -qF "what $schedule computes depends on the number of ranks: saved with 4, it goes on with 4, not with 2" <<<"$text"; then
    fail "$schedule on two: $text"
  fi
done

# A rank that cannot write stops all, and leaves the folder as it was.
first=${schedules%% *}
limited='[ "${RANK:-${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-0}}}" = 1 ] && { trap "" XFSZ; ulimit -f 1; }; exec "$@"'
# (Files of the shared memory that MPICH's UCX takes by itself would be limited too.)
if text=$(UCX_TLS=self,sysv launch 4 bash -c "$limited" rank "$trainer" --transport "$transport" --resume "$work/$first" --steps 1000020 \
  --save-every 10 --save "$work/other" --quiet 2>&1); then
  fail "a rank that cannot write: $text"
fi
grep -q 'cannot write .*step-.*: File too large' <<<"$text" || fail "a rank that cannot write says: $text"
[ -z "$(ls -A "$work/other" 2>/dev/null)" ] || fail "left behind: $(ls -A "$work/other")"
exit $failed
