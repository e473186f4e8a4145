# find_package(pipewright COMPONENTS core gpt2)
include(CMakePackageConfigHelpers)
configure_package_config_file(cmake/pipewright-config.cmake.in ${PROJECT_BINARY_DIR}/pipewright-config.cmake
  INSTALL_DESTINATION ${PIPEWRIGHT_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/pipewright-config-version.cmake
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/pipewright-config.cmake ${PROJECT_BINARY_DIR}/pipewright-config-version.cmake
  DESTINATION ${PIPEWRIGHT_CMAKE_DIR} COMPONENT development)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT development)
