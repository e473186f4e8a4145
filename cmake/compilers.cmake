# The compilers that pipewright must suit, called directly by tests that only ask whether, or why not, a file compiles.
# (A `cmake --build` per case would take a lock on the build directory, and nvcc is no language of this project.)

find_program(PIPEWRIGHT_GCC NAMES g++-12 g++)
find_program(PIPEWRIGHT_CLANG NAMES clang++-19 clang++-20 clang++-21)
if(PIPEWRIGHT_CUDA_NVCC)  # of the toolkit that the CUDA adapter has found
  set(PIPEWRIGHT_NVCC ${PIPEWRIGHT_CUDA_NVCC})
else()
  find_program(PIPEWRIGHT_NVCC NAMES nvcc PATHS /usr/local/cuda/bin)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(PIPEWRIGHT_GCC ${CMAKE_CXX_COMPILER})
  set(building gcc)
elseif(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  set(PIPEWRIGHT_CLANG ${CMAKE_CXX_COMPILER})
  set(building clang)
endif()

# The tests' include directories, by hand, since no target stands behind these commands.
get_target_property(boost_directories Boost::headers INTERFACE_INCLUDE_DIRECTORIES)
set(flags -std=c++20 -I${PROJECT_SOURCE_DIR}/include -I${PROJECT_SOURCE_DIR}/tests)
foreach(directory IN LISTS boost_directories)
  if(NOT directory IN_LIST CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES)
    list(APPEND flags -isystem${directory})
  endif()
endforeach()
set(PIPEWRIGHT_GCC_COMMAND ${PIPEWRIGHT_GCC} ${flags} -x c++ -fsyntax-only)
set(PIPEWRIGHT_CLANG_COMMAND ${PIPEWRIGHT_CLANG} ${flags} -x c++ -fsyntax-only)
set(PIPEWRIGHT_NVCC_COMMAND ${PIPEWRIGHT_NVCC} ${flags} -x cu -c -Wno-deprecated-gpu-targets -ccbin ${PIPEWRIGHT_GCC})

set(PIPEWRIGHT_COMPILERS "")
foreach(compiler IN ITEMS gcc clang nvcc)
  string(TOUPPER ${compiler} upper)
  if(PIPEWRIGHT_${upper})
    list(APPEND PIPEWRIGHT_COMPILERS ${compiler})
    continue()
  endif()
  set(sentence "pipewright: ${compiler} was not found, so nothing is checked with it")
  if("$ENV{CI}")
    message(FATAL_ERROR "${sentence}; install it (Debian: g++, clang-19; nvcc: tests/run installs it)")
  endif()
  message(WARNING "${sentence}")
  add_test(NAME compiler.${compiler} COMMAND ${CMAKE_COMMAND} -E echo "${sentence}")
  set_tests_properties(compiler.${compiler} PROPERTIES SKIP_REGULAR_EXPRESSION "was not found")  # seen in the summary
endforeach()

set(PIPEWRIGHT_OTHER_COMPILERS ${PIPEWRIGHT_COMPILERS})
list(REMOVE_ITEM PIPEWRIGHT_OTHER_COMPILERS ${building})

# pipewright_add_compile_test(<name> <compiler> <source> [<case> <expectations>])
# Without a case the source must compile. With one it must not, and the compiler must say all of the expectations;
# cmake/check_compile.cmake has the rules.
function(pipewright_add_compile_test name compiler source)
  string(TOUPPER ${compiler} upper)
  set(command ${PIPEWRIGHT_${upper}_COMMAND})
  if(compiler STREQUAL "nvcc")
    list(APPEND command -o ${CMAKE_CURRENT_BINARY_DIR}/${name}.o)  # it cannot stop before it has one
  endif()
  add_test(NAME ${name} COMMAND ${CMAKE_COMMAND} -D compiler=${compiler} -D source=${source} -D case=${ARGN}
    -P ${PROJECT_SOURCE_DIR}/cmake/check_compile.cmake -- ${command})
  set_tests_properties(${name} PROPERTIES LABELS compile TIMEOUT 300)
endfunction()
