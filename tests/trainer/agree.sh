#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Ranks that were started with different words say which, and stop; none trains by itself.
#   agree.sh TRAIN_GPT2 TRANSPORT LAUNCHER... (as far as the number of processes)
set -u
trainer=$1
transport=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
model=(--model "layers=4,width=16,heads=2,positions=16" --micro-batches 2)
run=("$trainer" --ranks 2 --sample 0 --quiet --json "$work/figures.json")
each='rank=${RANK:-${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-}}}; others=$1; shift; [ "$rank" = 0 ] && set -- "$@" $0 || set -- "$@" $others; exec "$@"'

# differ WORDS WORDS SENTENCE OPTION...: of rank 0 and rank 1, and what both are told
differ() {
  local one=$1 other=$2 sentence=$3 text
  shift 3
  if text=$(timeout 60 "${launcher[@]}" 2 bash -c "$each" "$one" "$other" "${run[@]}" --transport "$transport" "$@" 2>&1) ||
    ! grep -qE "the ranks do not agree on what to run: rank 0 said \"$sentence" <<<"$text" || [ -e "$work/figures.json" ]; then
    echo "FAILED rank 0 with '$one', rank 1 with '$other': $text"
    failed=1
  else
    echo "passed '$one' and '$other'"
  fi
}
launcher=("$@")

head -c 3000 "$0" >"$work/text"
head -c 2999 "$0" >"$work/other" && echo x >>"$work/other"
make() { "${run[@]}" "${model[@]}" --save "$work/$1" "${@:2}" || failed=1; }
make two --steps 2
make three --steps 3
make other-two --steps 2 --learning-rate 0.1
rm "$work/figures.json"

differ "--steps 4" "--steps 5" "--steps 4 .*rank 1 said \"--steps 5 " "${model[@]}"
differ "--resume $work/two" "--resume $work/three" "goes on from step 2, .*rank 1 said \"goes on from step 3, " --steps 9
# One that fails alone, before it meets the others, does not let them wait until their deadline, which is 60 s.
began=$SECONDS
text=$(timeout 50 "${launcher[@]}" 2 bash -c "$each" "" "--weights $work/nowhere" "${run[@]}" --transport "$transport" --micro-batches 2 2>&1)
status=$?
if [ $status = 0 ] || [ $((SECONDS - began)) -gt 20 ] || ! grep -q "nowhere cannot be opened" <<<"$text"; then
  echo "FAILED rank 1 without weights: status $status after $((SECONDS - began)) s: $text"
  failed=1
else
  echo "passed rank 1 without weights"
fi
[ "$transport" = gloo ] && exit $failed # each costs seconds to load LibTorch
differ "--resume $work/two" "--resume $work/other-two" "goes on from step 2, .*rank 1 said \"goes on from step 2, " --steps 9 --learning-rate 0.1
differ "--weights $work/two/step-2" "--weights $work/three/step-3" "starts from weights " --micro-batches 2
differ "" "--learning-rate 0.1" "--steps 50 .*--learning-rate 0.1 " "${model[@]}"
differ "--balance 3,3" "--balance 2,4" "--backend host, .*cut 3,3\".*cut 2,4\"" "${model[@]}"
differ "--data $work/text" "--data $work/other" "--sequences 2 .*tokens [0-9a-f]+\".*tokens [0-9a-f]+\"" "${model[@]}"
differ "--save $work/one --save-every 2" "--save $work/one --save-every 5" "--save .*--save-every 2 .*--save-every 5" "${model[@]}"
differ "--eval-every 2" "--eval-every 5" ".*--eval-every 2 .*--eval-every 5" "${model[@]}"
exit $failed
