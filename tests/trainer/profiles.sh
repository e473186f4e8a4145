#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A profile of torch's modules is that of the host's GPT-2, byte for byte in weights, and nearly so in what is saved; the planner
# plans for it.
#   profiles.sh PROFILE_GPT2 SCHEDULE_PLANNER
set -u
profile=$1 planner=$2
. "$(dirname "$0")/checks.sh"
# bytes FILE FIELD: of each layer, on a line
bytes() { grep -o "\"$2\": [0-9.]*" "$work/$1.json" | sed 's/.*: //'; }

for backend in host libtorch; do
  "$profile" --model layers=2,width=32,heads=4,positions=32 --rounds 2 --backend $backend -o "$work/$backend.json" || fail "$backend"
done
for field in parameter_bytes gradient_bytes optimizer_bytes; do
  host=$(bytes host $field) libtorch=$(bytes libtorch $field)
  [ -n "$host" ] && [ "$host" = "$libtorch" ] && echo "passed $field" || fail "$field: host $host, libtorch $libtorch"
done
# The embedding keeps its tokens as 64-bit numbers in torch.
paste <(bytes host saved_bytes) <(bytes libtorch saved_bytes) | tail -n +2 |
  awk '{ d = $1 / $2 - 1; if (d > 0.01 || d < -0.01) { print; exit 1 } } END { if (NR != 3) exit 1 }' || fail saved_bytes
grep -q '"frees_saved": true' "$work/libtorch.json" || fail "a graph is freed"
! grep -q '"frees_saved": true' "$work/host.json" || fail "the host keeps its memory"
"$planner" "$work/libtorch.json" --devices 2 --batch 8 --json | grep -q '"workspace"' || fail "no plan"
exit $failed
