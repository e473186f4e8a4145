# What the component needs before its target is imported.
list(PREPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})
find_package(CBLAS QUIET)
list(POP_FRONT CMAKE_MODULE_PATH)
if(NOT CBLAS_FOUND)
  set(pipewright_component_lacks "CBLAS was not found: install OpenBLAS (Debian: libopenblas-dev) or set CBLAS_ROOT")
endif()
include(${CMAKE_CURRENT_LIST_DIR}/pipewright-safetensors-targets.cmake)
