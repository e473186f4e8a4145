# pipewright_add_cuda_library(<target> <source.cu> [<architecture>...]): a static library of one source that nvcc compiles, for programs
# of the building compiler. CUDA is no language of this project, which would have every user find nvcc.
# What the caller then gives the target (target_link_libraries, target_include_directories, target_compile_definitions; not
# target_compile_options) nvcc gets too.
# An architecture is 90 for the machine code of sm_90, or compute_90 for PTX, of which a driver makes such; by default sm_80, sm_90 and
# compute_90, and sm_90 alone in the quick build. There must be PIPEWRIGHT_CUDA_NVCC.
function(pipewright_add_cuda_library target source)
  set(architectures ${ARGN})
  if(NOT architectures)
    set(architectures 90)
    if(NOT PIPEWRIGHT_QUICK_TESTS)
      set(architectures 80 90 compute_90)
    endif()
  endif()
  set(code "")
  foreach(each IN LISTS architectures)
    if(each MATCHES "^compute_(.*)$")
      list(APPEND code -gencode=arch=${each},code=${each})
    else()
      list(APPEND code -gencode=arch=compute_${each},code=sm_${each})
    endif()
  endforeach()
  # nvcc asks a host compiler of GNU's, whatever builds the rest.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(host ${CMAKE_CXX_COMPILER})
  else()
    find_program(PIPEWRIGHT_GCC NAMES g++-12 g++ REQUIRED)
    set(host ${PIPEWRIGHT_GCC})
  endif()

  cmake_path(ABSOLUTE_PATH source BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
  set(object ${CMAKE_CURRENT_BINARY_DIR}/${target}.cu.o)
  set(directories $<REMOVE_DUPLICATES:$<TARGET_PROPERTY:${target},INCLUDE_DIRECTORIES>>)
  # The compiler's own again would come before its wrappers of them.
  foreach(own IN LISTS CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES)
    string(REGEX REPLACE "([+.])" "[\\1]" own ${own})
    set(directories $<FILTER:${directories},EXCLUDE,^${own}$>)
  endforeach()
  set(definitions $<TARGET_PROPERTY:${target},COMPILE_DEFINITIONS>)
  add_custom_command(OUTPUT ${object}
    COMMAND ${PIPEWRIGHT_CUDA_NVCC} -std=c++20 --expt-relaxed-constexpr -O2 $<$<NOT:$<CONFIG:Debug>>:-DNDEBUG> ${code} -ccbin ${host}
      -Xcompiler=-fPIC,-Wall,-Wextra $<$<BOOL:${PIPEWRIGHT_WERROR}>:-Werror=all-warnings> $<$<BOOL:${PIPEWRIGHT_WERROR}>:-Xcompiler=-Werror>
      "$<$<BOOL:${directories}>:-I$<JOIN:${directories},;-I>>" "$<$<BOOL:${definitions}>:-D$<JOIN:${definitions},;-D>>"
      -MD -MF ${object}.d -MT ${object} -c -o ${object} ${source}
    DEPENDS ${source} ${PIPEWRIGHT_CUDA_NVCC} DEPFILE ${object}.d COMMENT "nvcc: ${target}" COMMAND_EXPAND_LISTS VERBATIM)

  add_library(${target} STATIC ${object})
  set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX)
  if(NOT PROJECT_IS_TOP_LEVEL)
    set_target_properties(${target} PROPERTIES EXCLUDE_FROM_ALL ON)  # a parent project builds it where it links it
  endif()
endfunction()
