#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Question: what does a schedule look like, is mine right, what does it cost? The five commands of schedule_explorer.
#   sh explore_schedules.sh [PROGRAM [FOLDER]]     default: schedule_explorer of the PATH, a new folder
set -eu
explorer=${1:-schedule_explorer}
folder=${2:-$(mktemp -d)}

echo "1. Every rank's order, as CSV that PyTorch reads too:"
"$explorer" order --schedule interleaved --ranks 2 --micro-batches 4 --chunks 2

echo "2. The same with transfers, as a table of your own might be; proven safe even where every transfer blocks:"
"$explorer" order --schedule flush --ranks 3 --micro-batches 4 --transfers >"$folder/mine.csv"
"$explorer" check "$folder/mine.csv"

echo "3. A table in which each of two ranks waits for the other is not; where, and why:"
printf '0F0,0B0,0F1,0B1\n1F1,1B1,1F0,1B0\n' >"$folder/wrong.csv"
if "$explorer" check "$folder/wrong.csv"; then
  echo "a broken table was not found" >&2
  exit 1
fi

echo "4. What two schedules cost, backward twice the forward, a link a tenth of it:"
for schedule in flush 1f1b; do
  "$explorer" simulate --schedule $schedule --ranks 4 --micro-batches 8 --cost forward=1,backward_input=1,backward_weight=1,transfer=0.1
done

echo "5. Pictures:"
"$explorer" draw --schedule flush --ranks 4 --micro-batches 8
"$explorer" draw --schedule flush --ranks 4 --micro-batches 8 -o "$folder/flush.svg"
"$explorer" trace --schedule flush --ranks 4 --micro-batches 8 -o "$folder/flush.json"
echo "written: $folder/flush.svg, and $folder/flush.json for Perfetto"
