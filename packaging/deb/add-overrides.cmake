# Run by CPack before it packs what was installed. Not file(INSTALL): that would put DESTDIR before the path once more.
if(CPACK_GENERATOR STREQUAL "DEB")
  set(overrides "${CPACK_TEMPORARY_INSTALL_DIRECTORY}/usr/share/lintian/overrides")
  file(MAKE_DIRECTORY "${overrides}")
  file(COPY_FILE "${CMAKE_CURRENT_LIST_DIR}/lintian-overrides" "${overrides}/cmssh")
endif()
