#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The links between three processes are measured and planned with; one process has none.
#   links.sh PROFILE_GPT2 SCHEDULE_PLANNER TRANSPORT LAUNCHER... (before the number of processes)
set -u
profile=$1 planner=$2 transport=$3
shift 3
. "$(dirname "$0")/checks.sh"
# Boundaries of a MiB, which take longer than a few bytes do.
sizes="--model layers=1,width=32,heads=1,positions=32 --sequences 256 --rounds 1"

# A processor that others want may take longer over a few bytes, so that a link seems to carry any number: measured again then.
for _ in 1 2 3; do
  "$@" 3 "$profile" $sizes --links "$transport" -o "$work/three.json" > "$work/out" || fail "three processes"
  [ "$(grep -c '"bandwidth": ' "$work/three.json")" = 4 ] && break
done
[ ! -s "$work/out" ] || fail "more than the file was written"
[ "$(grep -c '"from": ' "$work/three.json")" = 3 ] || fail "three links"
# of_links FIELD: of the link that is for all, then of each
of_links() { grep -o "\"$1\": [0-9.e+-]*" "$work/three.json" | sed 's/.*: //'; }
of_links latency | sort -g | awk 'NR == 1 && $1 <= 0 { exit 1 } $1 > 1 { exit 1 } END { if (NR != 4) exit 1 }' ||
  fail "latencies: $(of_links latency | tr '\n' ' ')"
[ "$(of_links latency | head -1)" = "$(of_links latency | sort -g | tail -1)" ] || fail "the slowest is for all"
[ "$(of_links bandwidth | wc -l)" = 4 ] || fail "a link without a bandwidth"
[ "$(of_links bandwidth | head -1)" = "$(of_links bandwidth | sort -g | head -1)" ] || fail "the narrowest is for all"
"$planner" "$work/three.json" --devices 3 --batch 6 --json > "$work/plan.json" || fail "no plan"
grep '"communication": ' "$work/plan.json" | grep -qv ': 0.0,\?$' || fail "links cost nothing"

"$profile" $sizes --links "$transport" > "$work/out" 2> "$work/err" && fail "one process"
grep -q "measures what lies between ranks, and there is one; start several: " "$work/err" || fail "no sentence: $(cat "$work/err")"
[ ! -s "$work/out" ] || fail "a profile after all"
[ $failed = 0 ] && echo "passed over $transport"
exit $failed
