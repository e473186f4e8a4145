#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The trainer over processes gives the losses of the trainer over threads, to the last digit, under every schedule, and the
# same sample from its weights; it tells of its speed, and joins what the ranks recorded in one trace.
#   compare.sh TRAIN_GPT2 TRANSPORT BACKEND "SCHEDULE..." LAUNCHER... (as far as the number of processes)
set -u
trainer=$1
transport=$2
backend=$3
schedules=$4
shift 4
. "$(dirname "$0")/checks.sh"
figures() { tr -d '\n ' | grep -oE '"losses":\[[^]]+\]|"sample":"[^"].*'; }
# same NAME OPTION...: threads and processes
same() {
  local name=$1
  shift
  local threads processes
  threads=$("$trainer" --backend "$backend" --ranks 4 --json - "$@" | figures)
  processes=$(timeout 100 "${launcher[@]}" 4 "$trainer" --transport "$transport" --backend "$backend" --ranks 4 --json - "$@" | figures)
  if [ "$(wc -l <<<"$threads")" != 2 ] || [ "$threads" != "$processes" ]; then
    fail "$name: threads $threads, processes $processes"
  else
    echo "passed $name: ${threads%%$'\n'*}"
  fi
}
launcher=("$@")
small=(--model "layers=8,width=16,heads=2,positions=16" --micro-batches 4)
for schedule in $schedules; do same "$schedule" "${small[@]}" --steps 4 --schedule "$schedule"; done
# Weights that do not fit a frame, on their way to the rank that writes the sample.
same "large weights" --model "layers=4,width=512,heads=4,positions=16" --steps 1 --micro-batches 2 --sample 10

# Lines on the way say how fast it is; the trace has every rank's actions, on one clock: nothing comes before what it needs.
# The launcher says the transport and the number of ranks.
text=$(timeout 100 "${launcher[@]}" 3 "$trainer" --backend "$backend" --schedule gpipe \
  "${small[@]}" --steps 10 --trace "$work/trace.json" 2>&1 | sed 's/.*\x1b\[K//'; exit "${PIPESTATUS[0]}") || fail "with a trace: $text"
[ "$(grep -cE '^step +(1|10)  loss [0-9.]+  [1-9][0-9]* tokens/s' <<<"$text")" = 2 ] || fail "no speed on the way: $text"
grep -qE '^[0-9.]+ ms a step, [1-9][0-9]* tokens/s; bubble' <<<"$text" || fail "no speed at the end: $text"
python3 - "$work/trace.json" <<'END' || fail "the trace is not that of three ranks"
import json, sys
events = json.load(open(sys.argv[1]))["traceEvents"]
begin, end = {}, {}
for e in events:
    if e["ph"] == "X" and e["cat"] in ("forward", "backward"):
        key = e["cat"], e["tid"], int(e["name"].lstrip("0123456789")[1:])
        assert key not in begin, f"{key} twice"
        begin[key], end[key] = e["ts"], e["ts"] + e["dur"]
for rank in range(3):
    for m in range(4):
        assert ("forward", rank, m) in begin and ("backward", rank, m) in begin, f"rank {rank} lacks micro-batch {m}"
        if rank > 0:
            assert begin["forward", rank, m] >= end["forward", rank - 1, m], f"forward {m} of rank {rank} is too early"
            assert begin["backward", rank - 1, m] >= end["backward", rank, m], f"backward {m} of rank {rank} is too late"
assert len(begin) == 24 and min(begin.values()) >= 0 and max(end.values()) < 60e6, "not one step"
print("passed trace:", len(events), "events")
END

# As many processes as ranks, or a sentence.
if text=$(timeout 100 "${launcher[@]}" 4 "$trainer" --transport "$transport" --ranks 3 2>&1) ||
  ! grep -qF "4 processes were started, but --ranks is 3; start as many: " <<<"$text"; then
  fail "4 processes for 3 ranks: $text"
fi

# What is held on other machines is not asked of this one: of two ranks each on its own, half.
if [ "$transport" = gloo ]; then
  # need LOCAL_RANK LOCAL_WORLD_SIZE: tenths of GB that rank 0 of 2 finds its machine would need
  need() {
    RANK=0 WORLD_SIZE=2 LOCAL_RANK=$1 LOCAL_WORLD_SIZE=$2 MASTER_ADDR=localhost MASTER_PORT=29500 timeout 100 "$trainer" --transport gloo \
      --backend "$backend" --ranks 2 --model layers=1024,width=65536,heads=1 --sequences 1 --balance uniform 2>&1 |
      sed -nE 's/.*needs some ([0-9]+)\.([0-9]) GB of memory( for 1 of its 2 ranks)? and the machine has .*/\1\2/p'
  }
  both=$(need 0 2) one=$(need 0 1)
  if [ -z "$both" ] || [ -z "$one" ] || [ "$((one * 100 / both))" -lt 45 ] || [ "$((one * 100 / both))" -gt 55 ]; then
    fail "two ranks here need $both, one of them $one"
  fi
fi
exit $failed
