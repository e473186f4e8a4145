# cmake -D build=DIR -D prefix=DIR -D config=NAME -P install.cmake: an installation with nothing left of an earlier one.
file(REMOVE_RECURSE ${prefix})
foreach(component IN ITEMS development tools)
  execute_process(COMMAND ${CMAKE_COMMAND} --install ${build} --prefix ${prefix} --component ${component} --config ${config}
    COMMAND_ERROR_IS_FATAL ANY)
endforeach()
