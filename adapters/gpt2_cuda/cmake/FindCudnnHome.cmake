# Headers of cuDNN 9 and of its frontend (header-only C++, also in the pip wheel nvidia-cudnn-frontend), of the first of these folders
# that has them, each by itself; nothing is linked, since programs load libcudnn.so.9 where it is:
#   PIPEWRIGHT_CUDNN_DIR           one that has include, or a virtual environment that holds the wheels; nothing else is looked at
#   PIPEWRIGHT_CUDA_FOLDER         the CUDA toolkit, or the wheels beside its own
#   PIPEWRIGHT_CUDNN_ENVIRONMENT   a virtual environment, where somebody sets it (the one that tests/run makes)
#   where the compiler looks
# Sets CudnnHome_FOUND, CudnnHome_INCLUDE_DIRS, CudnnHome_VERSION, CudnnHome_FRONTEND_VERSION and CudnnHome_LIBRARY_FOLDER, which
# may be empty, or CudnnHome_LACKS: a sentence that says what to do.

set(cudnn_home_remedy "pip install nvidia-cudnn-frontend nvidia-cudnn-jit-cu13, and set PIPEWRIGHT_CUDNN_DIR to the virtual environment")
set(CudnnHome_INCLUDE_DIRS "")
set(CudnnHome_VERSION "")
set(CudnnHome_FRONTEND_VERSION "")
set(CudnnHome_LIBRARY_FOLDER "")
if(PIPEWRIGHT_CUDNN_DIR)
  set(cudnn_home_places ${PIPEWRIGHT_CUDNN_DIR})
else()
  set(cudnn_home_places ${PIPEWRIGHT_CUDA_FOLDER} ${PIPEWRIGHT_CUDNN_ENVIRONMENT})
endif()
set(cudnn_home_folders "")
foreach(cudnn_home_place IN LISTS cudnn_home_places)
  file(GLOB cudnn_home_wheels ${cudnn_home_place}/lib/python3*/site-packages ${cudnn_home_place}/lib/python3*/site-packages/nvidia/cudnn*
    ${cudnn_home_place}/../cudnn*)
  foreach(cudnn_home_folder IN LISTS cudnn_home_place cudnn_home_wheels)
    list(APPEND cudnn_home_folders ${cudnn_home_folder}/include)
  endforeach()
endforeach()
set(cudnn_home_elsewhere "")
if(PIPEWRIGHT_CUDNN_DIR)
  set(cudnn_home_elsewhere NO_DEFAULT_PATH)
endif()

# cudnn_home_version(<result> <file> <prefix> <parts>): 9.19.0 of the lines `#define <prefix><part> 9` and so on
function(cudnn_home_version result file prefix parts)
  file(STRINGS ${file} lines REGEX "^#define ${prefix}(${parts}) +[0-9]+")
  list(TRANSFORM lines REPLACE ".* ([0-9]+).*" "\\1")
  list(JOIN lines "." lines)
  set(${result} ${lines} PARENT_SCOPE)
endfunction()

unset(CudnnHome_HEADERS)
unset(CudnnHome_FRONTEND)
find_path(CudnnHome_HEADERS cudnn_version.h HINTS ${cudnn_home_folders} NO_CACHE ${cudnn_home_elsewhere})
find_path(CudnnHome_FRONTEND cudnn_frontend_version.h HINTS ${cudnn_home_folders} NO_CACHE ${cudnn_home_elsewhere})
foreach(cudnn_home_found IN ITEMS CudnnHome_HEADERS CudnnHome_FRONTEND)
  string(REGEX REPLACE "/$" "" ${cudnn_home_found} "${${cudnn_home_found}}")
endforeach()
if(CudnnHome_HEADERS)
  cudnn_home_version(CudnnHome_VERSION ${CudnnHome_HEADERS}/cudnn_version.h CUDNN_ "MAJOR|MINOR|PATCHLEVEL")
endif()
if(CudnnHome_FRONTEND)
  cudnn_home_version(CudnnHome_FRONTEND_VERSION ${CudnnHome_FRONTEND}/cudnn_frontend_version.h CUDNN_FRONTEND_ "(MAJOR|MINOR|PATCH)_VERSION")
endif()
if(NOT CudnnHome_HEADERS)
  set(CudnnHome_LACKS "no headers of cuDNN found: ${cudnn_home_remedy}")
elseif(CudnnHome_VERSION VERSION_LESS 9.8 OR CudnnHome_VERSION VERSION_GREATER_EQUAL 10)
  set(CudnnHome_LACKS "the headers of cuDNN in ${CudnnHome_HEADERS} are ${CudnnHome_VERSION}, and 9.8 or a later 9 is needed: ${cudnn_home_remedy}")
elseif(NOT CudnnHome_FRONTEND)
  set(CudnnHome_LACKS "no headers of cuDNN's frontend found: ${cudnn_home_remedy}")
elseif(CudnnHome_FRONTEND_VERSION VERSION_LESS 1.18 OR CudnnHome_FRONTEND_VERSION VERSION_GREATER_EQUAL 2)
  set(CudnnHome_LACKS "cuDNN's frontend in ${CudnnHome_FRONTEND} is ${CudnnHome_FRONTEND_VERSION}, and 1.18 or a later 1 is needed: ${cudnn_home_remedy}")
else()
  set(CudnnHome_LACKS "")
  set(CudnnHome_INCLUDE_DIRS ${CudnnHome_FRONTEND} ${CudnnHome_HEADERS})
  list(REMOVE_DUPLICATES CudnnHome_INCLUDE_DIRS)
  cmake_path(GET CudnnHome_HEADERS PARENT_PATH cudnn_home_place)
  file(GLOB cudnn_home_files ${cudnn_home_place}/lib64/libcudnn.so.9 ${cudnn_home_place}/lib/libcudnn.so.9
    ${cudnn_home_place}/lib/${CMAKE_SYSTEM_PROCESSOR}-linux-gnu/libcudnn.so.9)
  if(cudnn_home_files)
    list(GET cudnn_home_files 0 cudnn_home_file)
    cmake_path(GET cudnn_home_file PARENT_PATH CudnnHome_LIBRARY_FOLDER)
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CudnnHome REQUIRED_VARS CudnnHome_INCLUDE_DIRS VERSION_VAR CudnnHome_VERSION
  REASON_FAILURE_MESSAGE "${CudnnHome_LACKS}")
