# What the component needs before its target is imported.
set(MPI_CXX_SKIP_MPICXX TRUE)  # the C bindings only
find_package(MPI QUIET COMPONENTS CXX)
if(NOT MPI_CXX_FOUND)
  set(pipewright_component_lacks "MPI was not found: install Open MPI or MPICH (Debian: libopenmpi-dev or libmpich-dev)")
endif()
