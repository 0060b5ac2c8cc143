# Run by CPack before it packs what was installed.
if(CPACK_GENERATOR STREQUAL "DEB")
  file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/lintian-overrides"
       DESTINATION "${CPACK_TEMPORARY_INSTALL_DIRECTORY}/usr/share/lintian/overrides" RENAME cmssh)
endif()
