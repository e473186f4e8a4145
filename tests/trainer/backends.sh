#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The host's GPT-2 and that of torch's modules train alike: the same losses as far as floats go, step by step, under the same
# options; and each goes on from what the other has saved.
#   backends.sh TRAIN_GPT2
set -u
trainer=$1
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

for options in "flush --dropout 0.1 --recompute always" "interleaved --tied --clip 1" "1f1b --optimizer sgd --learning-rate 0.1"; do
  how=(--ranks 2 --model "layers=4,width=32,heads=4,positions=32" --micro-batches 4 --steps 8 --warm-up 0 --schedule $options)
  host=$(train "${how[@]}")
  libtorch=$(train "${how[@]}" --backend libtorch)
  if alike "$host" "$libtorch"; then echo "passed $options: $libtorch"; else fail "$options: host $host, libtorch $libtorch"; fi
  [ "$host" != "$libtorch" ] || fail "$options: not one bit differs, so that it was one backend twice"
done

how=(--ranks 2 --model "layers=4,width=32,heads=4,positions=32" --micro-batches 4 --rate-shape constant --steps)
straight=$(train "${how[@]}" 12)
for first in host libtorch; do
  second=$([ $first = host ] && echo libtorch || echo host)
  train "${how[@]}" 6 --backend $first --save "$work/$first" >/dev/null
  late=$(train --resume "$work/$first" --backend $second --steps 12)
  if alike "$late" "${straight#*,*,*,*,*,*,}"; then echo "passed $first, then $second: $late"; else fail "$first, then $second: $late of $straight"; fi
done
exit $failed
