#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A rank of a training is killed or stopped in the middle of a step: all others end within the deadline of 2 s and 5 s more,
# and say where they were; no process is left, no file is half written, and the last checkpoint goes on.
#   faults.sh TRAIN_GPT2 TRANSPORT LAUNCHER... (which starts four ranks)
set -u
trainer=$1
transport=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
RANDOM=${PIPEWRIGHT_SEED:=$(date +%N | sed 's/^0*//')} # when a rank is lost; said where something fails

# Each rank leaves its process number, and what it says.
each='rank=${RANK:-${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-}}}; echo $$ >"$0/pid-$rank"; exec "$@" 2>"$0/err-$rank"'
is_alive() { [ "$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null)" != Z ] && kill -0 "$1" 2>/dev/null; }

# MPICH's launcher kills the other ranks, whatever its options, where it sees first that a rank's output has closed, and only
# later that its connection has: nobody can say anything then, and it is tried again.
fault() {
  local try
  for try in 1 2 3 4 5 6 7 8 9; do
    try_fault "$@" "$try" && return
    echo "the launcher killed all ranks at once; again"
  done
  echo "FAILED $1 of rank $2: the launcher has killed all ranks $try times"
  failed=1
}
# try_fault SIGNAL RANK SAVE_EVERY TRY: 1 where it is to be tried again.
try_fault() {
  local here=$work/$1-$2-$4 wrong='' status=0 began took pid rank
  mkdir "$here"
  "${launch[@]}" bash -c "$each" "$here" "$trainer" --transport "$transport" --deadline 2 --ranks 4 \
    --model layers=6,width=16,heads=2,positions=16 --micro-batches 4 --steps 1000000 --quiet --save-every "$3" \
    --save "$here/saved" --json "$here/figures.json" --trace "$here/trace.json" >"$here/out" 2>&1 &
  local job=$!
  for _ in $(seq 1500); do
    ls "$here"/saved/step-* >/dev/null 2>&1 && break
    sleep 0.02
  done
  sleep "0.$((RANDOM % 10))$((RANDOM % 10))"
  is_alive "$job" || wrong="; it ended by itself"
  kill "-$1" "$(cat "$here/pid-$2")"
  began=$(date +%s%N)
  while took=$((($(date +%s%N) - began) / 1000000)) && [ "$took" -le 7000 ]; do
    pid=
    is_alive "$job" && pid=launcher
    for rank in 0 1 2 3; do is_alive "$(cat "$here/pid-$rank")" && pid=$rank; done
    [ -z "$pid" ] && break
    sleep 0.02
  done
  if is_alive "$job"; then
    wrong+="; the launcher is left"
    kill "$job"
    sleep 1
    kill -9 "$job" 2>/dev/null
    wait "$job"
  else
    wait "$job" || status=$?
    [ "$status" -ne 0 ] || wrong+="; status 0"
  fi
  [ "$took" -le 7000 ] || wrong+="; it took $took ms"
  for rank in 0 1 2 3; do
    pid=$(cat "$here/pid-$rank")
    if is_alive "$pid"; then
      wrong+="; rank $rank is left"
      kill -9 "$pid"
    fi
    [ "$rank" = "$2" ] && continue
    [ "$1" = KILL ] && [ ! -s "$here/err-$rank" ] && [[ " ${launch[*]} " = *' -disable-auto-cleanup '* ]] && return 1
    grep -qE "$place" "$here/err-$rank" || wrong+="; rank $rank did not say where it was: $(cat "$here/err-$rank")"
  done
  [ -z "$(find "$here" -maxdepth 1 -name '*.json*')" ] || wrong+="; figures of what did not end"
  local newest=$(ls -d "$here"/saved/step-* | sed 's/.*-//' | sort -n | tail -1)
  [ -z "$(find "$here/saved" -name '*.part*' -not -path '*/.step-*')" ] || wrong+="; half a file"
  "$trainer" --resume "$here/saved" --steps $((newest + 1)) --ranks 1 --sample 0 --quiet >"$here/again" 2>&1 ||
    wrong+="; it cannot go on: $(cat "$here/again")"
  if [ -n "$wrong" ]; then
    printf 'FAILED %s of rank %s (PIPEWRIGHT_SEED=%s)%s\n%s\n' "$1" "$2" "$PIPEWRIGHT_SEED" "$wrong" "$(cat "$here/out")"
    failed=1
  else
    printf 'passed %s of rank %s, %s ms: %s\n' "$1" "$2" "$took" "$(cat "$here"/err-* | grep -m1 -oE "$place.*")"
    find "$here/saved" -maxdepth 1 -name '.*' -name '*.part' -printf '  left for the next save to remove: %f\n'
  fi
  return 0
}

place='rank [0-3], stage [0-9]+, micro-batch [0-9]+, action [0-9A-Z_]+: .*rank [0-3]'
launch=("$@")
fault KILL 2 100
fault STOP 0 100
place='rank [0-3](, stage|: ).*rank [0-3]' # it saves most of the time, where there is no micro-batch
fault KILL 0 1
fault STOP 3 1
exit $failed
