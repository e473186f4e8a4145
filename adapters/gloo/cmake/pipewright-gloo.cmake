# What the component needs before its target is imported.
if(NOT TARGET pipewright::libtorch)
  include(${CMAKE_CURRENT_LIST_DIR}/pipewright-libtorch.cmake)
  if(NOT DEFINED pipewright_component_lacks)
    include(${CMAKE_CURRENT_LIST_DIR}/pipewright-libtorch-targets.cmake)
  endif()
endif()
