# The part that all consumers share: a program with warnings as errors, which must not see pipewright's own headers.
enable_testing()
foreach(component IN ITEMS core ${PIPEWRIGHT_ADAPTERS})
  add_executable(use_${component} ${CMAKE_CURRENT_LIST_DIR}/use_${component}.cpp)
  target_link_libraries(use_${component} PRIVATE pipewright::${component})
  target_compile_options(use_${component} PRIVATE -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Werror)
  add_test(NAME use_${component} COMMAND use_${component})
endforeach()
