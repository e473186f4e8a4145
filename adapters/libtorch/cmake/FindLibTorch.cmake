# LibTorch::LibTorch: LibTorch 2 with its CPU half, from a pip wheel's folder torch/, the official zip's folder libtorch/, or
# a system's package. The first of these that is there:
#   PIPEWRIGHT_TORCH_DIR           the folder itself, or a virtual environment that holds the wheel; nothing else is looked at
#   Torch_DIR, CMAKE_PREFIX_PATH   where find_package(Torch) would look
#   PIPEWRIGHT_TORCH_ENVIRONMENT   a virtual environment, where somebody sets it (the one that tests/run makes)
#   python3                        the wheel of that interpreter, found without importing it
# TorchConfig.cmake is found, but not run: one built with CUDA ends a configuration that has no CUDA toolkit, and it sets flags
# and architectures for everybody. All that it would say of the CPU half are two libraries.
# Sets LibTorch_FOUND, LibTorch_VERSION and LibTorch_FOLDER, or LibTorch_LACKS: a sentence that says what to do.

# libtorch_below(<result> <folder>): the folder itself, or that of a wheel or a zip below it; empty where there is none.
function(libtorch_below result folder)
  file(GLOB wheels ${folder}/lib/python3*/site-packages/torch)
  set(${result} "" PARENT_SCOPE)
  foreach(candidate IN ITEMS ${folder} ${folder}/torch ${folder}/libtorch LISTS wheels)
    file(GLOB libraries ${candidate}/lib/libtorch_cpu.so ${candidate}/lib/*/libtorch_cpu.so)
    if(libraries AND EXISTS ${candidate}/include/torch)
      set(${result} ${candidate} PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()

# libtorch_version(<result> <folder>)
function(libtorch_version result folder)
  foreach(header IN ITEMS torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
    if(EXISTS ${folder}/include/${header})
      file(STRINGS ${folder}/include/${header} lines REGEX "^#define TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]+")
      list(TRANSFORM lines REPLACE "[^0-9]+" "")
      list(JOIN lines "." version)
      if(version)
        set(${result} ${version} PARENT_SCOPE)
        return()
      endif()
    endif()
  endforeach()
  set(${result} 0 PARENT_SCOPE)
endfunction()

set(LibTorch_LACKS "")
set(LibTorch_FOLDER "")
set(LibTorch_VERSION "")
set(libtorch_places "")
if(PIPEWRIGHT_TORCH_DIR)
  set(libtorch_places ${PIPEWRIGHT_TORCH_DIR})
  set(LibTorch_LACKS "PIPEWRIGHT_TORCH_DIR=${PIPEWRIGHT_TORCH_DIR} holds no lib/libtorch_cpu.so and include/torch: give the folder torch of a pip wheel, or libtorch of the zip")
else()
  find_path(LibTorch_CONFIG_DIR TorchConfig.cmake HINTS ${Torch_DIR} ENV Torch_DIR PATH_SUFFIXES share/cmake/Torch lib/cmake/Torch)
  find_program(LibTorch_PYTHON python3)
  mark_as_advanced(LibTorch_CONFIG_DIR LibTorch_PYTHON)
  if(LibTorch_CONFIG_DIR)
    get_filename_component(place ${LibTorch_CONFIG_DIR}/../../.. ABSOLUTE)
    list(APPEND libtorch_places ${place})
  endif()
  list(APPEND libtorch_places ${PIPEWRIGHT_TORCH_ENVIRONMENT})
  if(LibTorch_PYTHON)
    execute_process(COMMAND ${LibTorch_PYTHON} -c "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s and s.submodule_search_locations else '')"
      OUTPUT_VARIABLE place OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    list(APPEND libtorch_places ${place})
  endif()
  set(LibTorch_LACKS "no LibTorch found: pip install --no-deps torch, or unpack the official zip, and set PIPEWRIGHT_TORCH_DIR to its folder")
endif()
foreach(place IN LISTS libtorch_places)
  libtorch_below(found "${place}")
  if(found)
    libtorch_version(LibTorch_VERSION ${found})
    if(LibTorch_VERSION VERSION_LESS 2.0)
      set(LibTorch_LACKS "the LibTorch in ${found} is ${LibTorch_VERSION}, and 2.0 or later is needed: pip install --no-deps torch, and set PIPEWRIGHT_TORCH_DIR to its folder")
    else()
      set(LibTorch_FOLDER ${found})
      set(LibTorch_LACKS "")
      break()
    endif()
  endif()
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS LibTorch_FOLDER VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "${LibTorch_LACKS}")

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  foreach(library IN ITEMS c10 torch_cpu)
    file(GLOB file ${LibTorch_FOLDER}/lib/lib${library}.so ${LibTorch_FOLDER}/lib/*/lib${library}.so)
    add_library(LibTorch::${library} SHARED IMPORTED)
    set_target_properties(LibTorch::${library} PROPERTIES IMPORTED_LOCATION ${file})
  endforeach()
  add_library(LibTorch::LibTorch INTERFACE IMPORTED)
  set_target_properties(LibTorch::LibTorch PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${LibTorch_FOLDER}/include;${LibTorch_FOLDER}/include/torch/csrc/api/include"
    # The c10d headers are empty without this.
    INTERFACE_COMPILE_DEFINITIONS USE_C10D_GLOO
    # Operators register themselves when torch_cpu is loaded: it must be, even where no symbol of it is named.
    INTERFACE_LINK_LIBRARIES "-Wl,--no-as-needed;LibTorch::torch_cpu;-Wl,--as-needed;LibTorch::c10")
  # Wheels up to 2.5 have the old ABI of std::string, which every unit must then have.
  if(EXISTS ${LibTorch_FOLDER}/share/cmake/Torch/TorchConfig.cmake)
    file(STRINGS ${LibTorch_FOLDER}/share/cmake/Torch/TorchConfig.cmake old_abi REGEX "D_GLIBCXX_USE_CXX11_ABI=0")
    if(old_abi)
      set_property(TARGET LibTorch::LibTorch APPEND PROPERTY INTERFACE_COMPILE_DEFINITIONS _GLIBCXX_USE_CXX11_ABI=0)
    endif()
  endif()
endif()
