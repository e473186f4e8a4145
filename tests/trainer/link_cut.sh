#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The link between two hosts is cut while ranks 0 and 1 train on one of them and ranks 2 and 3 on the other: all end by
# themselves within the deadline of 2 s and 5 s more, and say where they were; no file is half written, and one rank goes on
# from the last checkpoint. The hosts are network namespaces, which end with their processes: nothing of them is left.
#   link_cut.sh TRAIN_GPT2 TRANSPORT [MPIRUN]     (Open MPI's, which starts programs on a host by a command of ours)
set -u
trainer=$1
transport=$2
mpirun=${3-}

if [ "${4-}" != inside ]; then
  skip() {
    echo "SKIPPED: two hosts cannot be made here: $*"
    exit 0
  }
  command -v ip >/dev/null || skip "there is no program ip (Debian: iproute2)"
  host=(unshare --net --mount)
  [ "$(id -u)" = 0 ] || host+=(--map-root-user)
  why=$("${host[@]}" sh -c 'mount --bind /dev/null /etc/hosts && ip link add wire type veth peer name other' 2>&1) || skip "$why"
  exec "${host[@]}" bash "$0" "$trainer" "$transport" "$mpirun" inside
fi

work=$(mktemp -d)
pids=() other= job=
clean() {
  kill -9 "${pids[@]}" $other $job
  pkill -9 -f "$work/agent"  # Open MPI's own on the second host
  rm -rf "$work"
} 2>/dev/null
trap clean EXIT
failed=0

# The first host is this namespace. Its own name leads to itself, as Debian has it; on the other host it leads here.
echo 127.0.1.1 first >"$work/hosts-first"
printf '%s\n' '10.0.0.1 first' '10.0.0.2 second' >"$work/hosts-second"
[ "$transport" = gloo ] || cp "$work/hosts-second" "$work/hosts-first"  # Open MPI asks who it is
mount --bind "$work/hosts-first" /etc/hosts
unshare --net --mount --uts sh -c 'mount --bind "$1" /etc/hosts; hostname second; echo >"$1.there"; exec sleep 1000' sh \
  "$work/hosts-second" &
other=$!
until [ -e "$work/hosts-second.there" ]; do sleep 0.02; done
second=(nsenter --target "$other" --net --mount --uts)
ip link add wire type veth peer name wire netns "$other"
ip address add 10.0.0.1/30 dev wire
"${second[@]}" ip address add 10.0.0.2/30 dev wire
for each in lo wire; do
  ip link set "$each" up
  "${second[@]}" ip link set "$each" up
done

is_alive() { kill -0 "$1" 2>/dev/null; }

# Each rank leaves its process number, what it says, and how it ended.
each='rank=${RANK:-${OMPI_COMM_WORLD_RANK-}}; "$@" >"$0/err-$rank" 2>&1 & echo $! >"$0/pid-$rank"; wait $!; echo $? >"$0/status-$rank"'

# start FOLDER PORT: two ranks on each host
start() {
  local here=$1 port=$2 rank on train=("$trainer" --transport "$transport" --deadline 2 --ranks 4 --model
    layers=6,width=16,heads=2,positions=16 --micro-batches 4 --steps 1000000 --quiet --save-every 100 --save "$1/saved"
    --json "$1/figures.json" --trace "$1/trace.json")
  if [ "$transport" = mpi ]; then
    printf '%s\n' '#!/bin/sh' 'shift' "exec ${second[*]} setsid sh -c \"\$*\"" >"$work/agent"
    chmod +x "$work/agent"
    "$mpirun" --mca plm_rsh_agent "$work/agent" --mca btl tcp,self --mca btl_tcp_if_include wire \
      --mca oob_tcp_if_include wire --host "$(hostname):2,second:2" -np 4 bash -c "$each" "$here" "${train[@]}" >"$here/out" 2>&1 &
    job=$!  # it stays, or crashes, where it loses the other host: its own affair
    return
  fi
  for rank in 0 1 2 3; do
    on=()
    [ "$rank" -lt 2 ] || on=("${second[@]}")
    "${on[@]}" env RANK=$rank WORLD_SIZE=4 LOCAL_RANK=$((rank % 2)) LOCAL_WORLD_SIZE=2 MASTER_ADDR=first MASTER_PORT="$port" \
      bash -c "$each" "$here" "${train[@]}" &
  done
}

# cut NAME PORT RANKS RANKS COMMAND...: RANKS, of whom those on the first host may tell, and those on the second
cut() {
  local here=$work/$1 name=$1 port=$2 who=("$3" "$3" "$4" "$4") wrong='' began took rank left status newest place
  shift 4
  mkdir "$here"
  start "$here" "$port"
  for _ in $(seq 1500); do
    ls "$here"/saved/step-* >/dev/null 2>&1 && break
    sleep 0.02
  done
  sleep 0.1
  pids=()
  for rank in 0 1 2 3; do pids+=("$(cat "$here/pid-$rank")"); done
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
    for _ in $(seq 50); do
      [ -s "$here/status-$rank" ] && break
      sleep 0.02
    done
    status=$(cat "$here/status-$rank" 2>/dev/null)
    # Open MPI may end the shell that waits, too.
    [ "$status" = 2 ] || { [ "$transport" = mpi ] && [ "$status" != 0 ]; } || wrong+="; status $status of rank $rank"
    place="rank [${who[$rank]}], stage [0-9]+, micro-batch [0-9]+, action [0-9A-Z_]+: .*rank [0-3]"
    grep -qE "$place" "$here/err-$rank" || wrong+="; rank $rank did not say where it was: $(cat "$here/err-$rank")"
  done
  pids=()
  [ -z "$job" ] || { kill -9 "$job" && wait "$job"; } 2>/dev/null
  [ -z "$(find "$here" -maxdepth 1 -name '*.json*')" ] || wrong+="; figures of what did not end"
  newest=$(ls -d "$here"/saved/step-* | sed 's/.*-//' | sort -n | tail -1)
  [ -z "$(find "$here/saved" -name '*.part*' -not -path '*/.step-*')" ] || wrong+="; half a file"
  "$trainer" --resume "$here/saved" --steps $((newest + 1)) --ranks 1 --sample 0 --quiet >"$here/again" 2>&1 ||
    wrong+="; it cannot go on: $(cat "$here/again")"
  if [ -n "$wrong" ]; then
    printf 'FAILED %s%s\n' "$name" "$wrong"
    [ ! -e "$here/out" ] || cat "$here/out"
    failed=1
  else
    printf 'passed %s, %s ms: %s\n' "$name" "$took" "$(grep -hm1 ^train_gpt2: "$here"/err-*)"
  fi
}

cut down 29500 01 23 ip link set wire down
[ "$transport" = gloo ] || exit $failed
ip link set wire up
# What the second host sends goes to nobody, who does not answer; what the first one sends still comes.
cut silence 29501 01 0123 "${second[@]}" ip neighbour replace 10.0.0.1 lladdr 02:00:00:00:00:01 nud permanent dev wire
exit $failed
