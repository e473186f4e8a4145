// SPDX-License-Identifier: Apache-2.0
// An optimizer whose training cannot be saved is told why. With no case selected this file compiles: the control.
//
// expect forgetful: pipewright: this optimizer keeps more than its states, which a checkpoint would lose; to save and resume, train with sgd or adam, or with one whose states are all that it keeps
#include <pipewright/pipeline/optimizer.hpp>

namespace pw = pipewright;

struct forgetful : pw::sgd {
  static constexpr bool keeps_more_than_states = true;
};
struct careful : pw::sgd {
  static constexpr bool keeps_more_than_states = false;
};
static_assert(pw::explain_saving<pw::adam>() && pw::explain_saving<careful>());

int main() {
#if defined(PIPEWRIGHT_CASE_forgetful)
  return pw::explain_saving<forgetful>();
#endif
}
