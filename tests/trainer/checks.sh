# SPDX-License-Identifier: Apache-2.0
# For scripts to source: a folder of their own, $work, which goes with them; what fails says so, and `exit $failed` ends.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
fail() {
  echo "FAILED $*"
  failed=1
}
