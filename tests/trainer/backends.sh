#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The host's GPT-2 and that of another backend train alike: the same losses as far as floats go, step by step, under the same
# options; and each goes on from what the other has saved.
#   backends.sh TRAIN_GPT2 BACKEND [OPTION...] (that this backend takes)
set -u
trainer=$1
other=$2
shift 2
its=("$@")
. "$(dirname "$0")/checks.sh"
losses() { tr -d '\n ' | grep -oE '"losses":\[[^]]+\]' | sed 's/.*\[//; s/\]//'; }
# alike LOSSES LOSSES: as many, each within a ten-thousandth, and falling
alike() {
  awk -v a="$1" -v b="$2" 'BEGIN {
    n = split(a, x, ","); m = split(b, y, ",")
    if (n != m || n < 4) exit 1
    for (i = 1; i <= n; ++i) { d = x[i] / y[i] - 1; if (d > 1e-4 || d < -1e-4) exit 1 }
    exit !(x[n] < x[1])
  }'
}
train() { "$trainer" --quiet --sample 0 --json - "$@" | losses; }
# options of BACKEND
as() {
  echo --backend "$1"
  [ "$1" = host ] || printf '%s\n' "${its[@]}"
}

for options in "flush --dropout 0.1 --recompute always" "interleaved --tied --clip 1" "1f1b --optimizer sgd --learning-rate 0.1"; do
  how=(--ranks 2 --model "layers=4,width=32,heads=4,positions=32" --micro-batches 4 --steps 8 --warm-up 0 --schedule $options)
  host=$(train "${how[@]}")
  found=$(train "${how[@]}" $(as "$other"))
  if alike "$host" "$found"; then echo "passed $options: $found"; else fail "$options: host $host, $other $found"; fi
  [ "$host" != "$found" ] || fail "$options: not one bit differs, so that it was one backend twice"
done

how=(--ranks 2 --model "layers=4,width=32,heads=4,positions=32" --micro-batches 4 --rate-shape constant --steps)
straight=$(train "${how[@]}" 12)
for first in host "$other"; do
  second=$([ $first = host ] && echo "$other" || echo host)
  train "${how[@]}" 6 $(as $first) --save "$work/$first" >/dev/null
  late=$(train --resume "$work/$first" $(as $second) --steps 12)
  if alike "$late" "${straight#*,*,*,*,*,*,}"; then echo "passed $first, then $second: $late"; else fail "$first, then $second: $late of $straight"; fi
done
exit $failed
