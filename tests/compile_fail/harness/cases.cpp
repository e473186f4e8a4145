// SPDX-License-Identifier: Apache-2.0
// Cases that the harness must fail, each for its own reason.
// expect compiles: said by nobody
// expect wrong_text: nobody says this
// expect repeated_line: only the source says this
// expect one_of_two: pipewright: the first sentence
// expect one_of_two: the second sentence
template<class T>
struct small {
  static_assert(sizeof(T) > 100, "pipewright: the first sentence");
};

int main() {
#if defined(PIPEWRIGHT_CASE_wrong_text) || defined(PIPEWRIGHT_CASE_one_of_two) || defined(PIPEWRIGHT_CASE_without_text)
  (void)sizeof(small<int>);
#elif defined(PIPEWRIGHT_CASE_repeated_line)
  (void)sizeof(small<int>);
  int text = "only the source says this";  // only the source says this
#endif
}
