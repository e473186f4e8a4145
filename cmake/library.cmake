# The header-only libraries: pipewright::core, and one target for each adapter whose dependency is there.

set(PIPEWRIGHT_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/pipewright)

# pipewright_add_library(<name>): the INTERFACE target pipewright::<name> of all headers below include/ of the calling
# directory, with an export set of its own, so that find_package imports only what was asked for.
function(pipewright_add_library name)
  # Found, not listed: the library is its headers, and a header left out of a list would be found by nobody's tests.
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS include/*.hpp)
  file(GLOB_RECURSE device_headers CONFIGURE_DEPENDS include/*.cuh)
  set(target pipewright_${name})
  add_library(${target} INTERFACE)
  add_library(pipewright::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  if(NOT PROJECT_IS_TOP_LEVEL)
    set_target_properties(${target} PROPERTIES SYSTEM ON)  # a parent project's warnings are about its own code
  endif()
  target_compile_features(${target} INTERFACE cxx_std_20)
  # Those with kernels are a set of their own, since only nvcc compiles them, and the check that every header compiles alone has another.
  target_sources(${target} INTERFACE FILE_SET HEADERS BASE_DIRS include FILES ${headers}
    FILE_SET device_headers TYPE HEADERS BASE_DIRS include FILES ${device_headers})
  set_target_properties(${target} PROPERTIES INTERFACE_HEADER_SETS_TO_VERIFY HEADERS)
  if(PIPEWRIGHT_INSTALL)
    install(TARGETS ${target} EXPORT pipewright-${name}-targets
      FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development
      FILE_SET device_headers DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)
    install(EXPORT pipewright-${name}-targets NAMESPACE pipewright:: DESTINATION ${PIPEWRIGHT_CMAKE_DIR}
      COMPONENT development)
  endif()
endfunction()

# pipewright_report_adapter(<name> <sentence>): a line of the table that ends the configuration.
function(pipewright_report_adapter name sentence)
  string(LENGTH "${name}" length)
  math(EXPR padding "15 - ${length}")
  string(REPEAT " " ${padding} spaces)
  set_property(GLOBAL APPEND PROPERTY PIPEWRIGHT_ADAPTERS "  ${name}${spaces}${sentence}")
endfunction()

function(pipewright_print_adapters)
  get_property(lines GLOBAL PROPERTY PIPEWRIGHT_ADAPTERS)
  message(STATUS "pipewright ${PROJECT_VERSION}: adapters")
  foreach(line IN LISTS lines)
    message(STATUS "${line}")
  endforeach()
endfunction()
