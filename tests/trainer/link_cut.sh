#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The link between two hosts is cut while ranks 0 and 1 train on one of them and ranks 2 and 3 on the other: all end by
# themselves within the deadline of 2 s and 5 s more, and say where they were; no file is half written, and one rank goes on
# from the last checkpoint. The hosts are network namespaces, which end with their processes: nothing of them is left.
#   link_cut.sh TRAIN_GPT2
set -u
trainer=$1

if [ "${2-}" != inside ]; then
  skip() {
    echo "SKIPPED: two hosts cannot be made here: $*"
    exit 0
  }
  command -v ip >/dev/null || skip "there is no program ip (Debian: iproute2)"
  host=(unshare --net --mount)
  [ "$(id -u)" = 0 ] || host+=(--map-root-user)
  why=$("${host[@]}" sh -c 'mount --bind /dev/null /etc/hosts && ip link add wire type veth peer name other' 2>&1) || skip "$why"
  exec "${host[@]}" bash "$0" "$trainer" inside
fi

work=$(mktemp -d)
pids=() other=
clean() {
  kill -9 "${pids[@]}" $other
  rm -rf "$work"
} 2>/dev/null
trap clean EXIT
failed=0

# The first host is this namespace. Its own name leads to itself, as Debian has it; on the other host it leads here.
echo 127.0.1.1 first >"$work/hosts-first"
echo 10.0.0.1 first >"$work/hosts-second"
mount --bind "$work/hosts-first" /etc/hosts
unshare --net --mount sh -c 'mount --bind "$1" /etc/hosts; echo >"$1.there"; exec sleep 1000' sh "$work/hosts-second" &
other=$!
until [ -e "$work/hosts-second.there" ]; do sleep 0.02; done
second=(nsenter --target "$other" --net --mount)
ip link add wire type veth peer name wire netns "$other"
ip address add 10.0.0.1/30 dev wire
"${second[@]}" ip address add 10.0.0.2/30 dev wire
for each in lo wire; do
  ip link set "$each" up
  "${second[@]}" ip link set "$each" up
done

is_alive() { kill -0 "$1" 2>/dev/null; }

# cut NAME PORT RANKS RANKS COMMAND...: RANKS, of whom those on the first host may tell, and those on the second
cut() {
  local here=$work/$1 name=$1 port=$2 who=("$3" "$3" "$4" "$4") wrong='' on began took rank left status newest place
  shift 4
  mkdir "$here"
  pids=()
  for rank in 0 1 2 3; do
    on=()
    [ "$rank" -lt 2 ] || on=("${second[@]}")
    "${on[@]}" env RANK=$rank WORLD_SIZE=4 LOCAL_RANK=$((rank % 2)) LOCAL_WORLD_SIZE=2 MASTER_ADDR=first MASTER_PORT="$port" \
      "$trainer" --transport gloo --deadline 2 --ranks 4 --model layers=6,width=16,heads=2,positions=16 \
      --micro-batches 4 --steps 1000000 --quiet --save-every 100 --save "$here/saved" --json "$here/figures.json" \
      --trace "$here/trace.json" >"$here/err-$rank" 2>&1 &
    pids+=($!)
  done
  for _ in $(seq 1500); do
    ls "$here"/saved/step-* >/dev/null 2>&1 && break
    sleep 0.02
  done
  sleep 0.1
  for rank in 0 1 2 3; do is_alive "${pids[$rank]}" || wrong+="; rank $rank ended by itself"; done
  "$@" || wrong+="; $* failed"
  began=$(date +%s%N)
  while took=$((($(date +%s%N) - began) / 1000000)) && [ "$took" -le 7000 ]; do
    left=
    for rank in 0 1 2 3; do is_alive "${pids[$rank]}" && left=$rank; done
    [ -z "$left" ] && break
    sleep 0.02
  done
  for rank in 0 1 2 3; do
    if is_alive "${pids[$rank]}"; then
      wrong+="; rank $rank is left"
      kill -9 "${pids[$rank]}"
    fi
    status=0
    wait "${pids[$rank]}" || status=$?
    [ "$status" = 2 ] || wrong+="; status $status of rank $rank"
    place="rank [${who[$rank]}], stage [0-9]+, micro-batch [0-9]+, action [0-9A-Z_]+: .*rank [0-3]"
    grep -qE "$place" "$here/err-$rank" || wrong+="; rank $rank did not say where it was: $(cat "$here/err-$rank")"
  done
  pids=()
  [ -z "$(find "$here" -maxdepth 1 -name '*.json*')" ] || wrong+="; figures of what did not end"
  newest=$(ls -d "$here"/saved/step-* | sed 's/.*-//' | sort -n | tail -1)
  [ -z "$(find "$here/saved" -name '*.part*' -not -path '*/.step-*')" ] || wrong+="; half a file"
  "$trainer" --resume "$here/saved" --steps $((newest + 1)) --ranks 1 --sample 0 --quiet >"$here/again" 2>&1 ||
    wrong+="; it cannot go on: $(cat "$here/again")"
  if [ -n "$wrong" ]; then
    printf 'FAILED %s%s\n' "$name" "$wrong"
    failed=1
  else
    printf 'passed %s, %s ms: %s\n' "$name" "$took" "$(grep -hm1 ^train_gpt2: "$here"/err-*)"
  fi
}

cut down 29500 01 23 ip link set wire down
ip link set wire up
# What the second host sends goes to nobody, who does not answer; what the first one sends still comes.
cut silence 29501 01 0123 "${second[@]}" ip neighbour replace 10.0.0.1 lladdr 02:00:00:00:00:01 nud permanent dev wire
exit $failed
