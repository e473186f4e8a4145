#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# In bf16, with weights in fp32 beside: schedules on one GPU give the bits of one rank, a resumed training those of one that was never
# stopped; a trace holds every rank's actions.
#   cuda_bits.sh TRAIN_GPT2
set -u
trainer=$1
. "$(dirname "$0")/checks.sh"
losses() { tr -d '\n ' | grep -oE '"losses":\[[^]]+\]'; }
train() { "$trainer" --backend cuda --deterministic --quiet --sample 0 --json - --model layers=4,width=32,heads=2,positions=16 \
  --micro-batches 4 --warm-up 0 --rate-shape constant --dropout 0.1 --tied --clip 1 "$@" | losses; }

alone=$(train --ranks 1 --schedule sequential --steps 6)
[ -n "$alone" ] || fail "one rank said nothing"
queued=$(train --ranks 1 --schedule sequential --steps 6 --no-graphs)
[ "$alone" = "$queued" ] || fail "as graphs $alone, kernel by kernel $queued"
for options in "2 --schedule flush" "4 --schedule gpipe" "2 --schedule interleaved"; do
  found=$(train --ranks $options --steps 6)
  if [ "$found" = "$alone" ]; then echo "passed $options: $found"; else fail "$options: $found, one rank $alone"; fi
done

train --ranks 2 --steps 3 --save "$work/run" >/dev/null
late=$("$trainer" --resume "$work/run" --backend cuda --deterministic --ranks 4 --steps 6 --quiet --sample 0 --json - \
  --trace "$work/trace.json" | losses)
expected=$(sed -E 's/"losses":\[([^,]+,){3}/"losses":[/' <<<"$alone")
if [ -n "$late" ] && [ "$late" = "$expected" ]; then echo "passed resume: $late"; else fail "resumed $late, expected $expected"; fi
for rank in 0 1 2 3; do
  grep -q "\"rank $rank\"" "$work/trace.json" || fail "the trace is without rank $rank"
done
[ "$(grep -o '"ph"' "$work/trace.json" | wc -l)" -ge 36 ] || fail "the trace is without actions"
exit $failed
