# What the component needs before its target is imported.
foreach(needed IN ITEMS gpt2 cuda)
  if(NOT DEFINED pipewright_component_lacks AND NOT TARGET pipewright::${needed})
    include(${CMAKE_CURRENT_LIST_DIR}/pipewright-${needed}.cmake)
    if(NOT DEFINED pipewright_component_lacks)
      include(${CMAKE_CURRENT_LIST_DIR}/pipewright-${needed}-targets.cmake)
    endif()
  endif()
endforeach()
