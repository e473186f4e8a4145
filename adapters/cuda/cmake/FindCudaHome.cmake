# CudaHome::cudart, CudaHome::cublasLt, CudaHome::nvtx3 and CudaHome::nccl: libraries of a CUDA 13 toolkit, or of the pip wheels that
# have the same. (CMake's FindCUDAToolkit does not find the libraries of wheels, which lack unversioned names, and keeps the first
# place that it was given.) The first of these that is there:
#   PIPEWRIGHT_CUDA_DIR            the folder that has bin and include, or a virtual environment that holds the wheels; nothing else
#                                  is looked at
#   CUDAToolkit_ROOT               as for FindCUDAToolkit, also from the environment
#   PIPEWRIGHT_CUDA_ENVIRONMENT    a virtual environment, where somebody sets it (the one that tests/run makes)
#   nvcc                           on PATH: the folder above its own
#   /usr/local/cuda
# NCCL is looked for beside it, then where the compiler looks; without it there is no CudaHome::nccl.
# Sets CudaHome_FOUND, CudaHome_VERSION, CudaHome_FOLDER, CudaHome_NVCC (which may be missing), CudaHome_NCCL_VERSION and
# CudaHome_LIBRARY_FOLDERS, or CudaHome_LACKS: a sentence that says what to do.

# cuda_home_library(<result> <name> <folder>...): a file, by its plain name or by that of a major version; empty where there is none.
function(cuda_home_library result name)
  set(${result} "" PARENT_SCOPE)
  foreach(folder IN LISTS ARGN)
    file(GLOB files ${folder}/lib64/lib${name}.so ${folder}/lib64/lib${name}.so.[0-9]* ${folder}/lib/lib${name}.so ${folder}/lib/lib${name}.so.[0-9]*
      ${folder}/targets/${CMAKE_SYSTEM_PROCESSOR}-linux/lib/lib${name}.so ${folder}/lib/${CMAKE_SYSTEM_PROCESSOR}-linux-gnu/lib${name}.so)
    if(files)
      list(GET files 0 file)
      set(${result} ${file} PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()

# cuda_home_below(<result> <folder>): the folder itself, or that of wheels below it; empty where there is none.
function(cuda_home_below result folder)
  set(${result} "" PARENT_SCOPE)
  file(GLOB wheels ${folder}/lib/python3*/site-packages/nvidia/cu[0-9]*)
  foreach(candidate IN ITEMS ${folder} LISTS wheels)
    cuda_home_library(cudart cudart ${candidate})
    cuda_home_library(cublasLt cublasLt ${candidate})
    if(cudart AND cublasLt AND EXISTS ${candidate}/include/cuda_runtime_api.h AND EXISTS ${candidate}/include/cublasLt.h)
      set(${result} ${candidate} PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()

set(CudaHome_FOLDER "")
set(CudaHome_VERSION "")
set(CudaHome_NVCC "")
set(CudaHome_NCCL_VERSION "")
set(CudaHome_LIBRARY_FOLDERS "")
set(cuda_home_remedy "install the CUDA toolkit 13 with NCCL, or pip install nvidia-cuda-runtime nvidia-cuda-crt nvidia-cuda-nvcc nvidia-nvvm nvidia-cuda-cccl nvidia-cublas nvidia-nvtx nvidia-nccl-cu13, and set PIPEWRIGHT_CUDA_DIR to the folder of either")
if(PIPEWRIGHT_CUDA_DIR)
  set(cuda_home_places ${PIPEWRIGHT_CUDA_DIR})
  set(CudaHome_LACKS "PIPEWRIGHT_CUDA_DIR=${PIPEWRIGHT_CUDA_DIR} holds no CUDA runtime and cuBLASLt with their headers: give a toolkit's folder, or a virtual environment with NVIDIA's wheels")
else()
  set(cuda_home_places ${CUDAToolkit_ROOT} $ENV{CUDAToolkit_ROOT} ${PIPEWRIGHT_CUDA_ENVIRONMENT})
  unset(CudaHome_ON_PATH)
  find_program(CudaHome_ON_PATH nvcc NO_CACHE)
  if(CudaHome_ON_PATH)
    file(REAL_PATH ${CudaHome_ON_PATH} cuda_home_place)
    cmake_path(GET cuda_home_place PARENT_PATH cuda_home_place)
    cmake_path(GET cuda_home_place PARENT_PATH cuda_home_place)
    list(APPEND cuda_home_places ${cuda_home_place})
  endif()
  list(APPEND cuda_home_places /usr/local/cuda)
  set(CudaHome_LACKS "no CUDA toolkit found: ${cuda_home_remedy}")
endif()
foreach(cuda_home_place IN LISTS cuda_home_places)
  cuda_home_below(cuda_home_found ${cuda_home_place})
  if(cuda_home_found)
    file(STRINGS ${cuda_home_found}/include/cuda_runtime_api.h cuda_home_version REGEX "^#define CUDART_VERSION +[0-9]+")
    string(REGEX REPLACE "^#define CUDART_VERSION +([0-9]+).*" "\\1" cuda_home_version "${cuda_home_version}")
    math(EXPR cuda_home_major "${cuda_home_version} / 1000")
    math(EXPR cuda_home_minor "${cuda_home_version} % 1000 / 10")
    set(CudaHome_VERSION ${cuda_home_major}.${cuda_home_minor})
    if(CudaHome_VERSION VERSION_LESS 13.0)
      set(CudaHome_LACKS "the CUDA toolkit in ${cuda_home_found} is ${CudaHome_VERSION}, and 13.0 or later is needed: ${cuda_home_remedy}")
    else()
      set(CudaHome_FOLDER ${cuda_home_found})
      set(CudaHome_LACKS "")
      break()
    endif()
  endif()
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CudaHome REQUIRED_VARS CudaHome_FOLDER VERSION_VAR CudaHome_VERSION
  REASON_FAILURE_MESSAGE "${CudaHome_LACKS}")

if(CudaHome_FOUND)
  if(EXISTS ${CudaHome_FOLDER}/bin/nvcc)
    set(CudaHome_NVCC ${CudaHome_FOLDER}/bin/nvcc)
  endif()
  foreach(cuda_home_name IN ITEMS cudart cublasLt)
    cuda_home_library(cuda_home_file ${cuda_home_name} ${CudaHome_FOLDER})
    cmake_path(GET cuda_home_file PARENT_PATH cuda_home_place)
    list(APPEND CudaHome_LIBRARY_FOLDERS ${cuda_home_place})
    if(NOT TARGET CudaHome::${cuda_home_name})
      add_library(CudaHome::${cuda_home_name} SHARED IMPORTED)
      set_target_properties(CudaHome::${cuda_home_name} PROPERTIES IMPORTED_LOCATION ${cuda_home_file}
        INTERFACE_INCLUDE_DIRECTORIES ${CudaHome_FOLDER}/include)
    endif()
  endforeach()
  if(NOT TARGET CudaHome::nvtx3 AND EXISTS ${CudaHome_FOLDER}/include/nvtx3)
    add_library(CudaHome::nvtx3 INTERFACE IMPORTED)  # headers, which load a profiler where there is one
    set_target_properties(CudaHome::nvtx3 PROPERTIES INTERFACE_INCLUDE_DIRECTORIES ${CudaHome_FOLDER}/include
      INTERFACE_LINK_LIBRARIES "${CMAKE_DL_LIBS}")
  endif()

  cmake_path(GET CudaHome_FOLDER PARENT_PATH cuda_home_place)
  unset(CudaHome_NCCL_HEADERS)
  find_path(CudaHome_NCCL_HEADERS nccl.h HINTS ${CudaHome_FOLDER}/include ${cuda_home_place}/nccl/include NO_CACHE)
  cuda_home_library(cuda_home_file nccl ${CudaHome_FOLDER} ${cuda_home_place}/nccl)
  if(NOT cuda_home_file)
    unset(cuda_home_file)
    find_library(cuda_home_file NAMES nccl libnccl.so.2 NO_CACHE)
  endif()
  if(CudaHome_NCCL_HEADERS AND cuda_home_file)
    file(STRINGS ${CudaHome_NCCL_HEADERS}/nccl.h cuda_home_lines REGEX "^#define NCCL_(MAJOR|MINOR|PATCH) [0-9]+")
    list(TRANSFORM cuda_home_lines REPLACE "[^0-9]+" "")
    list(JOIN cuda_home_lines "." CudaHome_NCCL_VERSION)
    cmake_path(GET cuda_home_file PARENT_PATH cuda_home_place)
    list(APPEND CudaHome_LIBRARY_FOLDERS ${cuda_home_place})
    if(NOT TARGET CudaHome::nccl)
      add_library(CudaHome::nccl SHARED IMPORTED)
      set_target_properties(CudaHome::nccl PROPERTIES IMPORTED_LOCATION ${cuda_home_file}
        INTERFACE_INCLUDE_DIRECTORIES ${CudaHome_NCCL_HEADERS} INTERFACE_LINK_LIBRARIES CudaHome::cudart)
    endif()
  endif()
  list(REMOVE_DUPLICATES CudaHome_LIBRARY_FOLDERS)
endif()
