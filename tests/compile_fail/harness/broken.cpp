// SPDX-License-Identifier: Apache-2.0
// The control of this file does not compile.
#error pipewright: broken on purpose
