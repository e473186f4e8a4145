# cmake -D compiler=NAME -D source=FILE -D case=[CASE] -P check_compile.cmake -- COMMAND...
#
# Without a case the source must compile. With one it is compiled with -DPIPEWRIGHT_CASE_<case>: the compiler must fail,
# and must say every text that the head of the file expects of the case:
#   // expect CASE: text                said by every compiler
#   // expect(gcc) CASE: text           said by this one, instead of the lines for every compiler
# A text is looked for literally, line by line, in what the compiler says itself: the source lines that it repeats do
# not count, nor do the kind of quotes, the inline namespace, or [ ] against ( ).
cmake_minimum_required(VERSION 3.25)

set(command "")
set(at FALSE)
foreach(index RANGE ${CMAKE_ARGC})
  if(at)
    list(APPEND command "${CMAKE_ARGV${index}}")
  elseif("${CMAKE_ARGV${index}}" STREQUAL "--")
    set(at TRUE)
  endif()
endforeach()
list(REMOVE_ITEM command "")

# message(FATAL_ERROR) would wrap the lines of the compiler.
macro(fail)
  message("${ARGV0}")
  message(FATAL_ERROR "the check of ${source} failed")
endmacro()

# One spelling for what compilers write differently, and nothing left that a CMake list would split at.
function(normalize variable)
  set(text "${${variable}}")
  string(REPLACE "‘" "'" text "${text}")
  string(REPLACE "’" "'" text "${text}")
  string(REPLACE "\"" "'" text "${text}")
  string(REPLACE "v0::" "" text "${text}")
  string(REPLACE "[" "(" text "${text}")
  string(REPLACE "]" ")" text "${text}")
  string(REPLACE ";" "," text "${text}")
  string(REPLACE "\\" "/" text "${text}")
  set(${variable} "${text}" PARENT_SCOPE)
endfunction()

set(ENV{LC_ALL} C)
if(case)
  list(APPEND command -DPIPEWRIGHT_CASE_${case})
endif()
execute_process(COMMAND ${command} ${source} RESULT_VARIABLE status OUTPUT_VARIABLE said ERROR_VARIABLE said)

if(NOT case)
  if(NOT status EQUAL 0)
    fail("does not compile with ${compiler}, but should:\n${said}")
  endif()
  return()
endif()

if(status EQUAL 0)
  fail("case ${case} compiles with ${compiler}, but should not")
endif()

file(READ ${source} text)
normalize(text)
string(REPLACE "\n" ";" lines "${text}")
set(expected "")
set(expected_here "")
foreach(line IN LISTS lines)
  if(line MATCHES "^// expect(\\(([a-z]+)\\))? ${case}: +(.+)$")
    if(NOT CMAKE_MATCH_2)
      list(APPEND expected "${CMAKE_MATCH_3}")
    elseif(CMAKE_MATCH_2 STREQUAL compiler)
      list(APPEND expected_here "${CMAKE_MATCH_3}")
    endif()
  endif()
endforeach()
if(expected_here)
  set(expected "${expected_here}")
endif()
if(NOT expected)
  fail("${source} expects no text of case ${case} with ${compiler}")
endif()

# What the compiler repeats of the source: `   12 | text` by gcc and clang, indented lines by nvcc.
set(diagnostics "${said}")
normalize(diagnostics)
string(REPLACE "\n" ";" lines "${diagnostics}")
set(own_words "")
foreach(line IN LISTS lines)
  if(line MATCHES "^ *[0-9]* \\| " OR (line MATCHES "^ " AND NOT line MATCHES "instantiation of"))
    continue()
  endif()
  list(APPEND own_words "${line}")
endforeach()

foreach(text IN LISTS expected)
  set(found FALSE)
  foreach(line IN LISTS own_words)
    string(FIND "${line}" "${text}" position)
    if(NOT position EQUAL -1)
      set(found TRUE)
    endif()
  endforeach()
  if(NOT found)
    fail("case ${case} fails with ${compiler} as it should, but the compiler does not say\n${text}\nIt says:\n${said}")
  endif()
endforeach()
