# What those who work on pipewright need besides: warnings, header checks, and the other compilers it must suit.

option(PIPEWRIGHT_WERROR "Treat warnings as errors (by default where CI is set)" $ENV{CI})

# Linked PRIVATE by examples and tests, never by the library.
add_library(pipewright_developer INTERFACE)
target_compile_options(pipewright_developer INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wno-sign-conversion -Wcast-qual -Wold-style-cast
  -Wnon-virtual-dtor -Woverloaded-virtual -Wextra-semi
  # A counting operator new is not mismatched.
  $<$<CXX_COMPILER_ID:GNU>:-Wshadow=local -Wduplicated-cond -Wlogical-op -Wno-mismatched-new-delete>
  $<$<CXX_COMPILER_ID:Clang>:-Wshadow>
  $<$<BOOL:${PIPEWRIGHT_WERROR}>:-Werror>)

set(PIPEWRIGHT_TEST_VARIANTS plain CACHE STRING "How unit and GPT-2 tests are built: a list of plain, asan, tsan")
option(PIPEWRIGHT_QUICK_TESTS "Build only what the default run of tests/run runs, and sanitizers without their dearest checks" OFF)

set(asan_options -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
if(PIPEWRIGHT_QUICK_TESTS)
  # Checks of every pointer that is followed: a third of the compile time, and mostly seen by the address sanitizer too.
  list(APPEND asan_options -fno-sanitize=null,alignment,object-size,vptr)
  # Checks as calls: for what takes long to compile and not to run.
  set(asan_by_calls $<$<CXX_COMPILER_ID:GNU>:--param=asan-instrumentation-with-call-threshold=0>)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Warnings that gcc's optimizer gives wrongly where a sanitizer has added its own code.
  list(APPEND asan_options -Wno-maybe-uninitialized -Wno-array-bounds -Wno-stringop-overflow -Wno-stringop-overread
    -Wno-restrict -Wno-nonnull -Wno-null-dereference -Wno-address)
endif()
# pipewright_sanitize(<program>): as the tests are built, an example or a tool has the address and undefined-behaviour
# sanitizers where they have no variant without.
function(pipewright_sanitize program)
  if(BUILD_TESTING AND NOT "plain" IN_LIST PIPEWRIGHT_TEST_VARIANTS)
    target_compile_options(${program} PRIVATE ${asan_options} ${asan_by_calls})
    target_link_options(${program} PRIVATE ${asan_options})
  endif()
endfunction()

# Every public header compiles alone: in the default build where CMAKE_VERIFY_INTERFACE_HEADER_SETS (preset dev).
if(CMAKE_VERIFY_INTERFACE_HEADER_SETS)
  add_custom_target(headers_compile_alone ALL)
  add_dependencies(headers_compile_alone all_verify_interface_header_sets)
endif()

# pipewright_add_executable(<target> <source>): links the core, and each adapter whose headers the source includes.
# Where such an adapter is not built here there is no target, and the configuration says so. What a folder's sources have instead of
# an adapter's dependency stands in PIPEWRIGHT_STAND_INS there: such adapters are not linked, and their headers are not found for it.
function(pipewright_add_executable target source)
  set(libraries pipewright::core)
  foreach(adapter IN ITEMS gpt2 safetensors launch libtorch gpt2_libtorch gloo mpi cuda gpt2_cuda nccl tokenizer)
    file(STRINGS ${source} includes REGEX "^#include [<\"]pipewright/${adapter}/")
    if(includes AND NOT adapter IN_LIST PIPEWRIGHT_STAND_INS)
      list(APPEND libraries pipewright::${adapter})
      if(NOT TARGET pipewright::${adapter})
        message(WARNING "pipewright: ${target} is left out: it needs the adapter ${adapter}")
        return()
      endif()
    endif()
  endforeach()
  add_executable(${target} ${source})
  target_link_libraries(${target} PRIVATE ${libraries} pipewright_developer)
endfunction()
