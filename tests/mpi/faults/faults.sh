#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# One rank of four stops, throws or returns early: all end within the deadline of 2 s and 5 s more, and say where they were.
#   faults.sh VICTIM MPIEXEC...
set -u
victim=$1
shift
failed=0

# expect FAULT SENTENCE...: what must stand in what the ranks say
expect() {
  local fault=$1 began=$SECONDS text status=0
  shift
  text=$(timeout -k 5 60 "${launch[@]}" "$victim" "$fault" 2 2>&1) || status=$?
  local took=$((SECONDS - began))
  local wrong=
  [ "$status" -ne 0 ] && [ "$status" -ne 124 ] || wrong="status $status"
  [ "$took" -le 8 ] || wrong="$wrong; it took $took s"  # 2 + 5, and a second of the launcher's
  for sentence; do grep -qE "$sentence" <<<"$text" || wrong="$wrong; nobody said '$sentence'"; done
  sleep 1
  if pgrep -f "$victim $fault" >/dev/null; then wrong="$wrong; ranks are left"; fi
  if [ -n "$wrong" ]; then
    printf 'FAILED %s: %s\n%s\n' "$fault" "$wrong" "$text"
    pkill -9 -f "$victim $fault"
    failed=1
  else
    printf 'passed %s, %s s: %s\n' "$fault" "$took" "$(grep -m1 victim: <<<"$text")"
  fi
}

launch=("$@")
where='rank [013], stage [0-9]+, micro-batch [0-9]+, action [0-9A-Z_]+'
expect stop "$where: waited 2 s for transfer [0-9]+ of the" "$where: (waited 2 s for|needs) transfer [0-9]+ of the [^;]*, which rank 2 has not"
expect throw 'victim: this rank has had enough' 'rank [013].*rank 2: its function ended with an exception'
for again in 1 2 3; do  # a launcher that loses its head does so now and then
  expect return 'rank 2 has returned without it|a pipeline ended with micro-batches in flight'
done
exit $failed
