#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The README's commands that fine-tune GPT-2 on SQuAD, with a toy model and toy contexts: over processes of a launcher, over
# threads of one process, and on one rank without a pipeline. All come to the same checkpoints.
#   mission.sh SOURCE PROGRAMS TRANSPORT BACKEND LAUNCHER... (as far as the number of processes)
set -u
source=$1
programs=$2
transport=$3
backend=$4
shift 4
launcher=("$@")
export PATH="$programs:$PATH"
if [ "${launcher[0]}" = torchrun ]; then
  python=${PIPEWRIGHT_PYTHON:-python3}
  if ! "$python" -c 'import torch.distributed.run' >/dev/null 2>&1; then
    echo "SKIPPED: $python cannot import torch, whose torchrun this is about; install it, or set PIPEWRIGHT_PYTHON to one that can"
    exit 0
  fi
  launcher=("$python" -m torch.distributed.run "${launcher[@]:1}")
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
launch() { timeout 200 "${launcher[@]}" "$@"; }
failed=0
fail() {
  echo "FAILED $*"
  failed=1
}

# What Hugging Face and SQuAD would give: twelve blocks, a tied head, a tokenizer, contexts of many lengths.
train_gpt2 --model layers=12,width=8,heads=2,positions=48,vocabulary=1024 --tied --ranks 2 --schedule sequential --micro-batches 1 \
  --sequences 1 --steps 1 --learning-rate 0 --dropout 0.1 --sample 0 --quiet --save made || fail "a model could not be made"
mv made/step-1 gpt2
rm gpt2/optimizer-* gpt2/training.json
cp "$source"/tests/tokenizer/fixtures/folder/* gpt2/
{
  printf '{"version": "1.1", "data": [{"title": "t", "paragraphs": ['
  for i in $(seq 40); do
    printf '%s{"context": "%s", "qas": []}' "$([ "$i" = 1 ] || echo ,)" "$i$(head -c $((i * 37 % 150)) "$source/LICENSE" | tr -c 'A-Za-z ' ' ')"
  done
  printf ']}]}'
} >train-v1.1.json

commands=$(sed -n '/mission.sh runs these/,/^```$/p' "$source/README.md" | sed '1,2d;$d' |
  sed 's/--steps 300/--steps 12/; s/--steps 600/--steps 14/; s/--save-every 100/--save-every 10/; s/--pad-to 1024/--pad-to 48/')
[ "$(grep -c '^mpirun' <<<"$commands")" = 3 ] || fail "the README has no such commands: $commands"

# run NAME SCRIPT: in a folder of its own
run() {
  mkdir "$1"
  ln -s ../gpt2 ../train-v1.1.json "$1/"
  local text
  if ! text=$(cd "$1" && eval "$2" 2>&1); then fail "$1: $text"; fi
  echo "$text" >"$1.out"
  for line in 'step     1  loss' 'step    10  loss' 'step    12  loss|tokens/s' 'goes on from run1/step-12' 'step    13  loss'; do
    grep -qE "$line" "$1.out" || fail "$1 did not say '$line': $text"
  done
  for each in run1/step-12 run2/step-12 run3/step-14; do
    [ -f "$1/$each/config.json" ] || fail "$1 did not save $each"
  done
}
run processes "set -e; $(sed -E "s/^mpirun -np ([0-9]+) train_gpt2 --transport mpi/launch \\1 train_gpt2 --transport $transport --backend $backend/" <<<"$commands")"
run threads "set -e; $(sed -E "s/^mpirun -np [0-9]+ train_gpt2 --transport mpi/train_gpt2 --backend $backend/" <<<"$commands")"
run alone "set -e; $(sed -E "s/^mpirun -np [0-9]+ train_gpt2 --transport mpi/train_gpt2 --backend $backend/; s/--ranks [0-9]( --schedule [a-z]+ --balance [^ ]+)?/--ranks 1 --schedule sequential/" <<<"$commands")"
diff -r processes threads || fail "processes and threads differ"
diff -r -x training.json processes alone || fail "a pipeline and one rank differ"
exit $failed
