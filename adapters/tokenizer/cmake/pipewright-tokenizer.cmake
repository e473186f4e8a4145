# What the component needs before its target is imported.
list(PREPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})
find_package(PCRE2 QUIET)
list(POP_FRONT CMAKE_MODULE_PATH)
find_package(nlohmann_json QUIET)
if(NOT PCRE2_FOUND OR NOT nlohmann_json_FOUND)
  set(pipewright_component_lacks "PCRE2 or nlohmann-json was not found: install them (Debian: libpcre2-dev nlohmann-json3-dev) or set PCRE2_ROOT and nlohmann_json_ROOT")
endif()
