# The README's program is examples/quick_start.cpp, and prints the grid that the README shows.
#   cmake -D readme=README.md -D source=quick_start.cpp -D program=quick_start -P readme.cmake
file(READ ${readme} text)
file(READ ${source} expected)
string(FIND "${expected}" "\n" end)
math(EXPR end "${end} + 1")
string(SUBSTRING "${expected}" ${end} -1 expected)  # without the licence line
string(FIND "${text}" "```cpp\n${expected}```" at)
if(at EQUAL -1)
  message(FATAL_ERROR "the first program of ${readme} is not ${source}; copy it there")
endif()
execute_process(COMMAND ${program} OUTPUT_VARIABLE printed COMMAND_ERROR_IS_FATAL ANY)
string(REGEX REPLACE "loss[^\n]*\n$" "" grid "${printed}")  # losses depend on the processor's BLAS kernels
string(FIND "${text}" "```\n${grid}loss " at)
if(at EQUAL -1)
  message(FATAL_ERROR "${program} prints another grid than ${readme} shows:\n${grid}")
endif()
